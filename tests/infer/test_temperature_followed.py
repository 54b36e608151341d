"""Where nobody asks for a temperature, the model's directory does: generate, chat and serve."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ingot
from ingot.adapt.load import LanguageModel, load
from ingot.core.errors import IngotError
from ingot.infer.constraint.compile import Constraints
from ingot.infer.reader import Reader
from ingot.serve.errors import ApiError
from ingot.serve.prepare import Embedder, Served, prepare
from ingot.serve.schema import ChatBody


@pytest.fixture
def stating(tiny: Callable[..., LanguageModel], tmp_path: Path) -> Callable[..., Path]:
    """stating(do_sample=True, temperature=0.3): a model directory whose generation_config.json says so."""

    def make(**settings: Any) -> Path:
        path = Path(shutil.copytree(tiny("llama").model_dir.path, tmp_path / str(len(list(tmp_path.iterdir())))))
        (path / "generation_config.json").write_text(json.dumps(settings))
        return path

    return make


STATED = {"do_sample": True, "temperature": 0.3}
CASES: list[tuple[dict[str, Any], float | None]] = [
    (STATED, 0.3), ({"do_sample": False}, 0.0), ({"do_sample": False, "temperature": 0.3}, 0.0),
    ({"temperature": 0.3}, None), ({"do_sample": True}, None), ({}, None),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "expected"), CASES)
def test_what_a_directory_states(
    stating: Callable[..., Path], settings: dict[str, Any], expected: float | None
) -> None:
    assert load(stating(**settings)).generation.temperature == expected


@pytest.mark.parametrize("found", [-1, "warm", True, [0.3]])
def test_what_is_no_temperature_is_refused(stating: Callable[..., Path], found: object) -> None:
    path = stating(do_sample=True, temperature=found)
    with pytest.raises(IngotError, match=r"generation_config\.json.*temperature") as error:
        ingot.generate(str(path), prompt="the cat")
    assert error.value.code == "config-not-supported"


def test_generate_follows_it_and_says_so(
    stating: Callable[..., Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingot.core.progress.LOGGER.propagate", True)
    caplog.set_level("INFO")
    words: dict[str, Any] = {"prompt": "the cat", "seed": 5, "max_tokens": 12}
    path, silent = str(stating(**STATED, top_p=0.9)), str(stating())
    found = ingot.generate(path, **words)
    assert "temperature 0.3, from" in caplog.text
    assert "also asks for top_p" in caplog.text
    caplog.clear()
    assert found.texts == ingot.generate(silent, temperature=0.3, **words).texts
    assert ingot.generate(path, temperature=1.0, **words).texts == ingot.generate(silent, **words).texts
    assert found.texts != ingot.generate(silent, **words).texts
    assert "temperature" not in caplog.text


def test_chat_follows_it(stating: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, words, expected in (
        (STATED, {}, 0.3), (STATED, {"temperature": 0.5}, 0.5), ({}, {}, 0.7), ({"do_sample": False}, {}, 0.0),
    ):  # fmt: skip
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert ingot.chat(str(stating(**settings)), **words).sampling.temperature == expected


def test_serve_follows_it(stating: Callable[..., Path]) -> None:
    model = load(stating(**STATED))
    forms = Constraints(model.tokenizer)
    served = Served("tiny", model.tokenizer, Reader.of(model), Embedder.of(model), forms, temperature=0.3)
    messages = [{"role": "user", "content": "the cat"}]
    for asked, expected in ((None, 0.3), (0.9, 0.9), (0, 0.0)):
        body = ChatBody.model_validate({"model": "tiny", "messages": messages, "temperature": asked})
        assert [sampling.temperature for _, sampling in prepare(body, served).sequences] == [expected]


def test_what_a_directory_states_is_checked_with_a_request(stating: Callable[..., Path]) -> None:
    """Greedy by the directory, a control that needs a temperature by the request: refused, not ignored."""
    model = load(stating(do_sample=False))
    forms = Constraints(model.tokenizer)
    served = Served("tiny", model.tokenizer, Reader.of(model), Embedder.of(model), forms, temperature=0.0)
    messages = [{"role": "user", "content": "the cat"}]
    body = ChatBody.model_validate({"model": "tiny", "messages": messages, "dynatemp_range": 0.5})
    with pytest.raises(ApiError) as error:
        prepare(body, served)
    assert error.value.param == "dynatemp_range"
