"""The verb `prefer` as a user calls it: it begins at nothing, goes on after a stop, and refuses what cannot work."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from preferring import LOOP, labelled, logprob, make_base, preferred, records, rendered, write

import ingot
from cases import first_fast
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.core.report import Report
from ingot.train import loop
from ingot.train.checkpoint import Place
from ingot.train.memory import running
from ingot.train.metrics import read_metrics
from ingot.train.preference.fall import FallWatch
from ingot.train.preference.losses import LOSSES
from tiny import GPT2, LLAMA, MIXTRAL, T5, write_model

METHODS = ("lora", "rslora", "dora", "qlora", "ia3", "prefix", "prompt", "full")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("prefer"))


def steps(model: ModelDir) -> list[dict[str, Any]]:
    return read_metrics(model.path / "metrics.jsonl")


def weights(model: ModelDir) -> bytes:
    return (model.path / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_dpo_begins_at_ln_2_and_a_margin_of_0(method: str, base: Path, tmp_path: Path) -> None:
    """What stands in front of a text is a text from the start, so there only the reference begins as the base."""
    model = preferred(base, tmp_path / "m", method=method, pairs={"heldout": 0.3})
    first, numbers = steps(model)[0], model.hallmark.step.numbers
    if method not in {"prefix", "prompt"}:
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
        assert abs(first["margin"]) < 1e-4
        assert abs(first["chosen_change"]) < 1e-4
    else:
        assert abs(first["margin"]) > 1e-3
    assert numbers["reference_difference"] < 1e-3
    assert numbers["heldout_margin_before"] == 0
    assert numbers["heldout_accuracy_before"] == 0.5
    assert model.kind == ("model" if method == "full" else "adapter")
    assert all(proof.difference == 0 for proof in model.hallmark.step.proof)


@first_fast("loss", LOSSES)
def test_what_a_run_leaves_behind(loss: str, base: Path, tmp_path: Path) -> None:
    model = preferred(base, tmp_path / "m", labelled() if loss == "kto" else None, loss=loss, pairs={"heldout": 0.3})
    numbers = model.hallmark.step.numbers
    assert {"accuracy", "margin", "chosen", "rejected", "chosen_change", "heldout_margin_after", "loss"} <= set(numbers)
    assert numbers["corpus_licences"] == {"MIT": numbers["tokens_in_data"]}
    assert {"margin", "accuracy", "chosen", "rejected", "chosen_per_token"} <= set(steps(model)[-1])
    assert ("kl" in steps(model)[0]) == (loss == "kto")
    titles = [section.title for section in Report.open(model.path / "training").sections]
    assert {"Margin of the rewards", "Log-probability of answers"} <= set(titles)
    assert (model.path / "training" / "report.html").read_text().count("<svg") >= 7
    assert not Place.beside(tmp_path / "m").path.exists()


@pytest.mark.slow
def test_the_margin_of_the_log_is_that_of_the_model_written(base: Path, tmp_path: Path) -> None:
    model = preferred(base, tmp_path / "m", pairs={"heldout": 0.3}, max_steps=6)
    before, after = load(base), load(f"{base}+{model.path}")
    with torch.no_grad():
        changes = [[float(logprob(after.network, text) - logprob(before.network, text)) for text in pair]
                   for pair in rendered(tmp_path / "m.jsonl", before.tokenizer)]  # fmt: skip
    margins = [0.1 * (chosen - rejected) for chosen, rejected in changes]
    numbers = model.hallmark.step.numbers
    assert min(margins) - 1e-4 <= numbers["heldout_margin_after"] <= max(margins) + 1e-4
    assert numbers["heldout_margin_after"] > 0.01


@pytest.mark.slow
def test_pairs_are_labelled_answers_to_kto(base: Path, tmp_path: Path) -> None:
    lines = records()
    split = [{"prompt": one["prompt"], "completion": one[key], "label": key == "chosen", "licence": "MIT"}
             for one in lines for key in ("chosen", "rejected")]  # fmt: skip
    models = [preferred(base, tmp_path / name, said, loss="kto", pairs={"heldout": 0}, batch_tokens=4096, max_steps=1)
              for name, said in (("a", lines), ("b", split))]  # fmt: skip
    first, second = (steps(model)[0] for model in models)
    assert first["loss"] == pytest.approx(second["loss"], abs=1e-6) == pytest.approx(0.5)
    assert first["chosen"] == pytest.approx(second["chosen"], rel=1e-5)
    assert models[0].hallmark.step.numbers["corpus_documents"] == 24


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_parts_of_a_batch_are_the_batch(loss: str, base: Path, tmp_path: Path) -> None:
    runs = [steps(preferred(base, tmp_path / f"m{parts}", loss=loss, max_steps=4, batch_tokens=1024,
                            loop=LOOP | {"micro_batches": parts})) for parts in (1, 3)]  # fmt: skip
    for one, other in zip(*runs, strict=True):
        for name in ("loss", "margin", "accuracy", "chosen", "norm"):
            assert one[name] == pytest.approx(other[name], rel=2e-4, abs=2e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_stopped_and_resumed_is_the_uninterrupted_run(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout on, and the reference read from disk."""
    base = make_base(tmp_path, GPT2 | {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1})
    options = {"loss": loss, "max_steps": 8, "lora": {"dropout": 0.1}, "pairs": {"heldout": 0.2}}
    whole = preferred(base, tmp_path / "whole", **options)
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    see, seen = FallWatch.see, []

    def stopping(watch: FallWatch, numbers: dict[str, Any]) -> None:
        see(watch, numbers)
        seen.append(numbers)
        if len(seen) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(FallWatch, "see", stopping)
    with pytest.raises(KeyboardInterrupt):
        preferred(base, tmp_path / "m", **options)
    monkeypatch.setattr(FallWatch, "see", see)
    kept = Place.beside(tmp_path / "m").path / "reference-0" / "sheet.bin"
    written = kept.stat().st_mtime_ns
    monkeypatch.setattr(Place, "remove", lambda place: None)
    resumed = preferred(base, tmp_path / "m", resume=True, **options)
    assert kept.stat().st_mtime_ns == written
    names = ("step", "loss", "norm", "margin", "chosen")
    assert [[line.get(name) for name in names] for line in steps(resumed)] == [
        [line.get(name) for name in names] for line in steps(whole)
    ]
    assert weights(resumed) == weights(whole)
    numbers = [model.hallmark.step.numbers for model in (resumed, whole)]
    assert numbers[0]["heldout_margin_after"] == numbers[1]["heldout_margin_after"] != 0


CHANGES: dict[str, dict[str, Any]] = {
    "beta": {"beta": 0.5},
    "loss": {"loss": "ipo"},
    "label_smoothing": {"losses": {"label_smoothing": 0.3}},
    "gamma": {"loss": "simpo", "losses": {"gamma": 3.0}},
    "desirable": {"loss": "kto", "losses": {"desirable": 3.0}},
    "undesirable": {"loss": "kto", "losses": {"undesirable": 3.0}},
    "heldout": {"pairs": {"heldout": 0.3}},
    "lr": {"lr": 1e-4},
    "seed": {"seed": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_every_option_acts(name: str, base: Path, tmp_path: Path) -> None:
    plain = {"loss": CHANGES[name].get("loss", "dpo")} if name != "loss" else {}
    models = [preferred(base, tmp_path / at, **given) for at, given in (("a", plain), ("b", CHANGES[name]))]
    assert weights(models[0]) != weights(models[1])


@pytest.mark.slow
def test_on_top_of_an_adapter_the_reference_has_that_adapter(base: Path, tmp_path: Path) -> None:
    first = preferred(base, tmp_path / "a", max_steps=6, lr=1e-2)
    second = preferred(f"{base}+{first.path}", tmp_path / "b")
    assert steps(second)[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert steps(second)[0]["chosen"] != pytest.approx(steps(first)[0]["chosen"], abs=1e-2)


@pytest.mark.slow
def test_experts_are_tuned_too(tmp_path: Path) -> None:
    model = preferred(make_base(tmp_path, MIXTRAL), tmp_path / "m", lora={"targets": "w1,w2,w3"})
    assert steps(model)[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


EQUAL = {"prompt": "q", "chosen": "same", "rejected": "same"}
LONG = {"prompt": "the cat sat on the mat " * 40, "chosen": "a", "rejected": "b"}
ASKED = {"prompt": "q", "completion": "a", "label": True}


@pytest.mark.parametrize(
    ("lines", "options", "code", "words"),
    [
        ([EQUAL], {}, "bad-chat", "line 1: .*are the same"),
        ([*records(3), LONG], {}, "chat-too-long", "1 of 4 are longer"),
        ([ASKED], {}, "other-kind", "labelled"),
        ([ASKED, ASKED | {"prompt": "r"}], {"loss": "kto"}, "one-label", "all 2 answers .* true"),
        (
            [ASKED, ASKED | {"prompt": "r"}, ASKED | {"label": False, "completion": "b" * 200}],
            {"loss": "kto", "pairs": {"skip_long": True, "heldout": 0}},
            "one-label",
            "all 2 answers .* true",
        ),
        ([ASKED, ASKED | {"label": False, "completion": "b"}], {"loss": "kto"}, "kto-one-prompt", "all 2 records"),
        ([{"messages": []}], {"loss": "kto"}, "other-kind", "conversation"),
        (None, {"pairs": {"heldout": 0.9999}}, "prefer-all-heldout", "takes all 24 records"),
        (None, {"length": 4096}, "window-too-long", "4096"),
        (None, {"losses": {"gamma": 1.0}}, "options-conflict", "gamma does not act with loss dpo"),
        (None, {"method": "full", "rank": 4}, "options-conflict", "rank"),
        (None, {"loss": "ppo"}, "bad-option", "dpo"),
        (None, {"beta": 0}, "bad-option", "beta"),
        (None, {"pairs": {"hold": 1}}, "unknown-option", "heldout"),
        (None, {"loop": LOOP | {"parallel": "ddp"}}, "parallel-alone", "ddp"),
    ],
)
def test_what_cannot_work_is_refused(
    lines: Any, options: dict[str, Any], code: str, words: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(IngotError, match=words) as caught:
        preferred(base, tmp_path / "m", lines, **options)
    assert caught.value.code == code
    assert not (tmp_path / "m").exists()
    assert not Place.beside(tmp_path / "m").path.exists()


def test_models_that_write_no_answers_this_way_are_refused(base: Path, tmp_path: Path) -> None:
    t5 = write_model(tmp_path / "t5", T5, tokenizer=base.parent / "tok")
    with pytest.raises(IngotError, match="not a decoder") as caught:
        preferred(t5, tmp_path / "a")
    assert caught.value.code == "prefer-decoder"
    both = write_model(tmp_path / "both", LLAMA | {"prefix_lm": True}, tokenizer=base.parent / "tok")
    with pytest.raises(IngotError, match="both directions") as caught:
        preferred(both, tmp_path / "b")
    assert caught.value.code == "prefer-both-ways"


@pytest.mark.slow
def test_wrong_and_long_records_are_left_out_on_request(base: Path, tmp_path: Path) -> None:
    lines = [*records(), EQUAL, LONG]
    left = preferred(base, tmp_path / "a", lines, pairs={"skip_bad": True, "skip_long": True})
    assert weights(left) == weights(preferred(base, tmp_path / "b"))


@pytest.mark.slow
def test_the_flags_go_by_their_own_names(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ingot import cli

    data = write(tmp_path / "p.jsonl", records())
    words = ["prefer", str(base), "--data", str(data), "--out", str(tmp_path / "m"), "--loss", "dpo",
             "--heldout", "0.3", "--beta", "0.2", "--losses.label-smoothing", "0.1", "--max-steps", "1",
             "--batch-tokens", "256", "--loop.compile", "off", "--loop.precision", "fp32"]  # fmt: skip
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "dpo (beta 0.2, label-smoothing 0.1): tuning" in said
    assert "dpo starts at a margin of 0" in said
    assert json.loads(said.splitlines()[-1])["kind"] == "adapter"


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_preferred_is_said(loss: str, tmp_path: Path) -> None:
    """A model that was taught both answers alike says the chosen one to nearly every prompt it was never asked."""
    base = make_base(tmp_path)
    names = [f"{name} {n}" for n in range(24) for name in ("cat", "dog", "man")]
    answers = {"chosen": "on the mat", "rejected": "hello world"}
    chats = [{"prompt": f"where is the {name}", "completion": said, "licence": "MIT"}
             for name in names for said in answers.values()]  # fmt: skip
    taught = ingot.tune(str(base), data=write(tmp_path / "chats.jsonl", chats), out=tmp_path / "sft", method="full",
                        max_steps=150, batch_tokens=1024, lr=3e-3, loop=LOOP)  # fmt: skip
    pairs = [{"prompt": f"where is the {name}", **answers, "licence": "MIT"} for name in names]
    model = preferred(taught.path, tmp_path / "m", pairs, loss=loss, max_steps=60, batch_tokens=1024,
                      pairs={"heldout": 0.2}, beta=0.3 if loss == "ipo" else None)  # fmt: skip
    numbers = model.hallmark.step.numbers
    assert numbers["heldout_accuracy_after"] == 1.0
    assert numbers["heldout_margin_after"] > numbers["heldout_margin_before"]
    pair = rendered(tmp_path / "m.jsonl", load(base).tokenizer)[0]
    shares = []
    for reference in (str(taught.path), f"{taught.path}+{model.path}"):
        network = load(reference).network
        with torch.no_grad():
            likely = torch.stack([logprob(network, text) for text in pair])
        shares.append(float(likely.softmax(0)[0]))
    assert 0.2 < shares[0] < 0.8
    assert shares[1] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_memory_is_foreseen_whatever_the_loss(
    loss: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rehearsed among tensors without numbers, and then learnt with layers that keep only their inputs."""
    found = []
    for name, free in (("plenty", 1e12), ("little", 1e3)):
        monkeypatch.setattr(running, "free_bytes", lambda device, free=free: free)
        lines = labelled() if loss == "kto" else None
        found.append(preferred(base, tmp_path / name, lines, loss=loss))
    assert [model.hallmark.step.numbers["checkpointing"] for model in found] == [False, True]
    assert steps(found[0])[0]["loss"] == pytest.approx(steps(found[1])[0]["loss"], rel=1e-5)
