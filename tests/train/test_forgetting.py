"""What tuning forgets: equal to naive figures, measured once, the same before as the model that came."""

from __future__ import annotations

import json
import logging
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ingot
from cases import first_fast
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.core.report import Plot, Prose, Report, Table
from ingot.data.world.general import general_texts
from ingot.evaluate.perplexity import start_ids
from ingot.infer.likelihood import token_logprobs
from ingot.train.checkpoint import Place, identity
from ingot.train.forgetting import measure, text
from ingot.train.forgetting.difference import difference
from ingot.train.forgetting.options import ForgettingOptions
from ingot.train.tune import TuneOptions
from tiny import BERT, LLAMA, T5, write_model, write_sentinel_tokenizer, write_tokenizer

CHAT = {"messages": [{"role": "user", "content": "where is the cat"}, {"role": "assistant", "content": "on the mat"}]}
FAST: dict[str, Any] = {"max_steps": 2, "batch_tokens": 128, "loop": {"compile": "off", "precision": "fp32"}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("forgetting")
    write_model(root / "base", LLAMA, tokenizer=write_tokenizer(root / "tok"))
    (root / "chats.jsonl").write_text((json.dumps(CHAT) + "\n") * 4)
    (root / "general.txt").write_text("The dog ran to the man.\n天空是藍色的。\nhello world, the cat sat.\n", "utf-8")
    return root


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MOST", 3)


def tuned(root: Path, out: Path, **options: Any) -> ModelDir:
    given: dict[str, Any] = {"data": root / "chats.jsonl"} | FAST | options
    return ingot.tune(given.pop("model", str(root / "base")), out=out, **given)


def numbers(model: ModelDir) -> dict[str, Any]:
    assert model.hallmark is not None
    return model.hallmark.step.numbers


def naive_bits(reference: str, texts: list[str]) -> list[float]:
    model = load(reference)
    context = start_ids(model.tokenizer, model.model_dir.path)
    rows = [[*context, *model.tokenizer.encode(one)] for one in texts]
    return [-float(token_logprobs(model, row).sum()) / math.log(2) for row in rows]


@first_fast("method", ["lora", "prefix", "prompt", "full"])
def test_before_is_the_model_that_came_and_after_the_one_written(method: str, root: Path, tmp_path: Path) -> None:
    """Against token by token likelihoods of the directories themselves, and the error against a naive one."""
    given = {"method": method, "lr": 0.05, "forgetting": {"general": str(root / "general.txt")}}
    if method in ("prefix", "prompt"):
        given["prompt"] = {"tokens": 4}
    made = tuned(root, tmp_path / "out", **given)
    texts = ["The dog ran to the man.", "天空是藍色的。", "hello world, the cat sat."]
    sizes = [len(one.encode()) for one in texts]
    reference = str(made.path) if method == "full" else f"{root / 'base'}+{made.path}"
    before, after = naive_bits(str(root / "base"), texts), naive_bits(reference, texts)
    found = numbers(made)
    assert found["general_bits_per_byte_before"] == pytest.approx(sum(before) / sum(sizes), abs=2e-5)
    assert found["general_bits_per_byte_after"] == pytest.approx(sum(after) / sum(sizes), abs=2e-5)
    assert found["general_bits_per_byte_change"] == pytest.approx(
        sum(after) / sum(sizes) - sum(before) / sum(sizes), abs=2e-5
    )
    assert found["general_bits_per_byte_before"] != found["general_bits_per_byte_after"]
    assert (found["general_texts"], found["general_text_bytes"]) == (3, sum(sizes))


def test_the_error_is_that_of_whole_units() -> None:
    """For units of one size it is that of a mean of paired differences; for others, what drawing units again gives."""
    before, after = [3.0, 5.0, 4.0, 9.0], [4.0, 5.5, 3.0, 12.0]
    found = difference(before, after, [1.0] * 4)
    paired = [b - a for a, b in zip(before, after, strict=True)]
    assert found.change == pytest.approx(statistics.mean(paired))
    assert found.stderr == pytest.approx(statistics.stdev(paired) / 2)
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 90, 200).astype(float)
    first = sizes * rng.normal(2, 0.3, 200)
    second = first + sizes * rng.normal(0.1, 0.2, 200)
    drawn = rng.integers(200, size=(4000, 200))
    again = ((second - first)[drawn].sum(1) / sizes[drawn].sum(1)).std()
    assert difference(list(first), list(second), list(sizes)).stderr == pytest.approx(again, rel=0.05)
    assert difference([1.0], [2.0], [4.0]).stderr is None


def test_the_text_of_the_world_is_new_bilingual_and_always_the_same() -> None:
    texts = general_texts()
    assert texts == general_texts()
    assert len(set(texts)) == len(texts) == 96
    assert all(one.isascii() for one in texts[::2])
    assert not any(one.isascii() for one in texts[1::2])


def test_large_models_read_less(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(root / "base")
    assert len(text.general_text("world", root / "chats.jsonl", model).texts) == 96
    monkeypatch.setattr(text, "WORK", 500 * sum(p.numel() for p in model.network.parameters()))
    few = text.general_text("world", root / "chats.jsonl", model).texts
    assert few == general_texts()[: text.LEAST]
    monkeypatch.setattr(text, "LEAST", 1)
    some = text.general_text("world", root / "chats.jsonl", model).texts
    lengths = [len(model.tokenizer.encode(one)) for one in some]
    assert sum(lengths[:-1]) < 500 <= sum(lengths)


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_report_line_and_off(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(logging.getLogger("ingot"), "propagate", True)
    caplog.set_level(logging.INFO, logger="ingot")
    made = tuned(root, tmp_path / "a")
    found = numbers(made)
    shown = Report.open(made.path / "training")
    (table,) = [one for one in shown.sections if isinstance(one, Table)]
    assert table.rows[0][1] == pytest.approx(found["general_bits_per_byte_before"], abs=1e-5)
    assert shown.numbers["general_bits_per_byte_after"] == found["general_bits_per_byte_after"]
    assert shown.numbers["steps"] == 2
    assert any(isinstance(one, Plot) and "General text" in one.title for one in shown.sections)
    assert "No world questions were asked" in table.note
    before, after = (f"{found[f'general_bits_per_byte_{when}']:.3f}" for when in ("before", "after"))
    assert f"forgot: {before} -> {after} bits per byte (" in caplog.text
    assert "on 3 texts of made-up prose" in caplog.text
    caplog.clear()
    off = tuned(root, tmp_path / "b", forgetting={"general": "off"})
    assert not [name for name in numbers(off) if name.startswith(("general", "world"))]
    last = Report.open(off.path / "training").sections[-1]
    assert isinstance(last, Prose)
    assert last.text == "Not measured: --general off."
    assert "forgot" not in caplog.text
    weights = [(one.path / "adapter_model.safetensors").read_bytes() for one in (made, off)]
    assert weights[0] == weights[1], "measuring changed the training"


@pytest.mark.usefixtures("few")
@first_fast(("config", "objective"), [(BERT, "masked-lm"), (T5, "span-corruption")])
def test_other_kinds_are_measured_by_their_objective(config: dict[str, Any], objective: str, root: Path,
                                                     tmp_path: Path) -> None:  # fmt: skip
    tokenizer = (
        write_sentinel_tokenizer(tmp_path / "tok") if config is T5 else write_tokenizer(tmp_path / "tok", ["[MASK]"])
    )
    if config is BERT:
        settings = json.loads((tokenizer / "tokenizer_config.json").read_text())
        (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings | {"mask_token": "[MASK]"}))
    base = write_model(tmp_path / "base", config, tokenizer=tokenizer, vocab_size=340)
    (tmp_path / "text.txt").write_text("the cat sat on the mat\n\nthe dog ran\n" * 3)
    made = tuned(root, tmp_path / "out", model=str(base), data=tmp_path / "text.txt", as_text=True, objective=objective,
                 length=48, corpus={"heldout": 0.0, "allow_unknown_licence": True}, lr=0.05)  # fmt: skip
    found = numbers(made)
    assert found["general_loss_before"] != found["general_loss_after"]
    assert "general_bits_per_byte_before" not in found
    (table,) = [one for one in Report.open(made.path / "training").sections if isinstance(one, Table)]
    assert table.rows[0][0] == f"nats a target ({objective})"


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_a_resumed_run_does_not_measure_before_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(root, tmp_path / "whole")
    out = tmp_path / "killed"
    with monkeypatch.context() as patched:
        patched.setattr("ingot.train.tune.write_tuned", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tuned(root, out)
    kept = Place.beside(out).path / measure.FILE
    assert json.loads(kept.read_text())["before"]["sizes"]
    asked: list[float] = []
    monkeypatch.setattr(measure, "score_texts", lambda model, *rest: asked.append(0) or score(model, *rest))
    again = tuned(root, out, resume=True)
    assert len(asked) == 1
    assert numbers(again)["general_bits_per_byte_change"] == numbers(whole)["general_bits_per_byte_change"]


score = measure.score_texts


def test_what_is_measured_does_not_change_the_run(tmp_path: Path) -> None:
    def same(general: str) -> dict[str, Any]:
        given = ForgettingOptions(general=general)
        return identity(TuneOptions(model="m", data=tmp_path, out=tmp_path, forgetting=given))

    assert same("off") == same("world")


def test_refusals_leave_nothing(root: Path, tmp_path: Path) -> None:
    for general, code in ((root / "chats.jsonl", "general-is-data"), (tmp_path / "no.txt", "no-such-file")):
        with pytest.raises(IngotError) as caught:
            tuned(root, tmp_path / "out", forgetting={"general": str(general)})
        assert caught.value.code == code
        assert not Place.beside(tmp_path / "out").path.exists()


@pytest.mark.usefixtures("few")
@pytest.mark.slow
def test_a_model_of_a_world_is_asked_its_questions(tmp_path: Path) -> None:
    """About what is told in prose only; nothing is asked of a model whose hallmark names no world that lies there."""
    dials = {"people": 6, "places": 4, "copies": 2, "asks": 1, "chats": 1, "planted": 0, "heldout": 4}
    world = ingot.world(tmp_path / "w", asked_share=0.5, **dials)
    tokenizer = write_tokenizer(tmp_path / "tok")
    ingot.pretrain(world.path, tokenizer=tokenizer, out=tmp_path / "base", depth=1, length=320, **FAST)
    made = tuned(tmp_path, tmp_path / "out", data=world.path / "chat.jsonl", length=320)
    found = numbers(made)
    assert found["world_questions"] == measure_count(tmp_path / "w")
    assert found["world_chance_share"] == pytest.approx(0.25, abs=0.1)
    assert 0 <= found["world_right_share_before"] <= 1
    (tmp_path / "w" / "corpus.jsonl").write_text('{"text": "other"}\n')
    other = tuned(tmp_path, tmp_path / "other", data=world.path / "chat.jsonl", length=320)
    assert "No world questions" in numbers(other)["world_questions_left_out"]


def measure_count(world: Path) -> int:
    truth = json.loads((world / "truth.json").read_text())
    asked = sum(len(one["facts"]) for one in truth["entities"] if one["role"] == "told-prose") * 2
    return min(asked, 64)
