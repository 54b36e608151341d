"""How tune reads conversations: what it shows, leaves out and refuses; showing changes nothing."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import ingot
from ingot import cli
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.train.checkpoint import identity
from ingot.train.reading import ConversationOptions
from ingot.train.tune import TuneOptions
from tiny import LLAMA, write_model, write_tokenizer

USER, ANSWER = {"role": "user", "content": "where is the cat"}, {"role": "assistant", "content": "on the mat"}
LONG = {"role": "assistant", "content": "the cat sat on the mat " * 40}
GOOD, BAD, TOO_LONG = {"messages": [USER, ANSWER]}, {"messages": [USER]}, {"messages": [USER, LONG]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tune")
    return write_model(root / "base", LLAMA, tokenizer=write_tokenizer(root / "tok"))


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("ingot"), "propagate", True)
    caplog.set_level(logging.INFO, logger="ingot")
    return caplog


def tuned(base: Path, out: Path, *records: Any, **options: Any) -> ModelDir:
    data = out.parent / f"{out.name}.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    options = {"max_steps": 2, "batch_tokens": 128, "loop": {"compile": "off", "precision": "fp32"}} | options
    return ingot.tune(str(base), data=data, out=out, **options)


@pytest.mark.slow
def test_the_mask_is_shown_and_changes_nothing(base: Path, tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    quiet = tuned(base, tmp_path / "a", *[GOOD] * 5)
    assert "⟦" not in heard.text
    loud = tuned(base, tmp_path / "b", *[GOOD] * 5, chats={"show_mask": True})
    assert heard.text.count("<|im_start|>assistant\n⟦on the mat<|im_end|>⟧\n") == 3
    assert "packed into rows of 128 tokens" in heard.text
    weights = [(model.path / "adapter_model.safetensors").read_bytes() for model in (quiet, loud)]
    assert weights[0] == weights[1]


def test_wrong_and_long_records_are_refused_or_left_out(
    base: Path, tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    records = [GOOD, BAD, TOO_LONG, {"instruction": "天空", "output": "藍色"}]
    with pytest.raises(IngotError, match="line 2: ") as caught:
        tuned(base, tmp_path / "a", *records)
    assert caught.value.code == "bad-chat"
    with pytest.raises(IngotError, match=r"1 of 3 are longer .* 3; .*skip-long") as caught:
        tuned(base, tmp_path / "b", *records, chats={"skip_bad": True})
    assert caught.value.code == "chat-too-long"
    left = tuned(base, tmp_path / "c", *records, chats={"skip_bad": True, "skip_long": True}, seed=3)
    assert "1 records of" in heard.text
    assert "1 of 3 are longer than the window of 128 tokens and were left out (3)" in heard.text
    same = tuned(base, tmp_path / "d", records[0], records[3], seed=3)
    weights = [(model.path / "adapter_model.safetensors").read_bytes() for model in (left, same)]
    assert weights[0] == weights[1]


def test_nothing_left_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=r"2 of 2 are longer .*: 1, 2;") as caught:
        tuned(base, tmp_path / "a", TOO_LONG, TOO_LONG, chats={"skip_long": True})
    assert caught.value.code == "chat-too-long"


@pytest.mark.parametrize("name", ["show_mask", "skip_bad", "skip_long"])
def test_options_of_conversations_mean_nothing_for_text(name: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="conversations") as caught:
        tuned(base, tmp_path / "a", {"text": "the cat"}, as_text=True, chats={name: True})
    assert caught.value.code == "options-conflict"


def test_a_run_may_go_on_that_shows_what_it_did_not_show_before(tmp_path: Path) -> None:
    def same(**chats: bool) -> dict[str, Any]:
        return identity(TuneOptions(model="m", data=tmp_path, out=tmp_path, chats=ConversationOptions(**chats)))

    assert same(show_mask=True) == same()
    assert same(skip_bad=True) != same()


def test_labels_and_preferences_are_not_imitated(base: Path, tmp_path: Path) -> None:
    for record in ({**GOOD, "label": False}, {"prompt": "q", "chosen": "a", "rejected": "b"}):
        with pytest.raises(IngotError) as caught:
            tuned(base, tmp_path / "a", GOOD, record)
        assert caught.value.code == "other-kind"


@pytest.mark.slow
def test_the_flag_goes_by_its_own_name(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "chats.jsonl"
    data.write_text(json.dumps(GOOD) + "\n")
    words = ["tune", str(base), "--data", str(data), "--out", str(tmp_path / "out"), "--max-steps", "1",
             "--batch-tokens", "128", "--loop.compile", "off", "--show-mask"]  # fmt: skip
    assert cli.main(words) == 0
    assert "⟦on the mat<|im_end|>⟧" in capsys.readouterr().out
    assert cli.main([*words[:-1], "--chats.show-mask"]) == 2
