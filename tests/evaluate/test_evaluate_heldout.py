"""`--heldout`: the documents that training held out, found again, and refused where the hallmark does not tell."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluating import options_for, write_lines

import ingot
from ingot.core.errors import IngotError
from ingot.core.files import file_digest
from ingot.core.hallmark import Ancestor, Hallmark, Source, Step
from ingot.core.report import Prose
from ingot.data.read import is_heldout, read_documents
from ingot.evaluate.evaluate import evaluate
from ingot.evaluate.perplexity import prepare
from tiny import write_tokenizer

WORDS = ["the", "cat", "sat", "on", "the", "mat", "and", "the", "dog", "ran", "to", "the", "man"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    texts = [f"{WORDS[n % 13]} {WORDS[n // 13]} number {n} ran to the mat." for n in range(120)]
    return write_lines(tmp_path / "data" / "corpus.jsonl", [{"text": text} for text in texts]).parent


def pretrained(
    out: Path, data: Path, share: float = 0.2, seed: int = 3, verb: str = "pretrain", **options: Any
) -> Path:
    """A directory whose hallmark says that it was trained on `data`."""
    options = {"corpus": {"heldout": share}} if verb == "pretrain" else options
    source = Source(name="corpus.jsonl", digest=file_digest(data / "corpus.jsonl"))
    out.mkdir()
    Hallmark(digest="d", files={}, step=Step(verb=verb, options=options, data=[source], seed=seed)).write(out)
    return out


def texts(options: Any) -> list[str]:
    return [document.text for document in prepare(options)]


def expected(data: Path, *splits: tuple[float, int]) -> list[str]:
    """By the function that training splits with, document by document."""
    return [one.text for one in read_documents(data) if all(is_heldout(one.text, *split) for split in splits)]


def test_what_training_held_out_is_measured(data: Path, tmp_path: Path) -> None:
    base = pretrained(tmp_path / "base", data)
    kept = texts(options_for(data, models=[base], heldout=True))
    assert kept == expected(data, (0.2, 3))
    assert 0 < len(kept) < 120
    assert len(texts(options_for(data, models=[base]))) == 120


def test_several_models_are_measured_on_what_all_held_out(data: Path, tmp_path: Path) -> None:
    models = [pretrained(tmp_path / "a", data, 0.5, 1), pretrained(tmp_path / "b", data, 0.4, 2)]
    assert texts(options_for(data, models=models, heldout=True)) == expected(data, (0.5, 1), (0.4, 2))
    none = [pretrained(tmp_path / f"m{seed}", data, 0.02, seed) for seed in range(4)]
    with pytest.raises(IngotError, match="120 documents") as error:
        prepare(options_for(data, models=none, heldout=True))
    assert error.value.code == "evaluate-heldout-empty"


def test_ancestors_and_adapters_tell_too(data: Path, tmp_path: Path) -> None:
    base = pretrained(tmp_path / "base", data)
    hallmark = Hallmark.read(base)
    assert hallmark is not None
    child = tmp_path / "int8"
    child.mkdir()
    step = Step(verb="quantize", options={})
    Hallmark(digest="e", files={}, step=step, ancestry=[Ancestor(digest="d", step=hallmark.step)]).write(child)
    assert texts(options_for(data, models=[child], heldout=True)) == expected(data, (0.2, 3))
    tuned = pretrained(tmp_path / "lora", data, verb="tune", corpus={"heldout": 0.2})  # which conversations never read
    with pytest.raises(IngotError, match="tune that held out nothing"):
        prepare(options_for(data, models=[f"{base}+{tuned}"], heldout=True))


def test_what_no_hallmark_tells_is_refused(data: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    changed = shutil.copytree(data, tmp_path / "changed")
    write_lines(changed / "corpus.jsonl", [{"text": "another text"}])
    for model, place in ((bare, data), (pretrained(tmp_path / "base", data), changed)):
        with pytest.raises(IngotError, match="no training on these files") as error:
            prepare(options_for(place, models=[model], heldout=True))
        assert error.value.code == "evaluate-no-heldout"
        assert str(model) in str(error.value)


def test_a_manifest_names_what_is_held_out(world_dir: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    assert texts(options_for(world_dir, models=[bare], heldout=True)) == texts(options_for(world_dir, models=[bare]))


@pytest.mark.slow
def test_a_trained_model_and_its_child(data: Path, tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    """Through the verbs, as the recipe for one's own text does."""
    tokenizer = write_tokenizer(tmp_path / "tok")
    corpus = {"allow_unknown_licence": True, "heldout": 0.2}
    given = {"tokenizer": tokenizer, "depth": 1, "length": 32, "max_steps": 2, "seed": 5, "corpus": corpus}
    base = ingot.pretrain(data, out=tmp_path / "base", **given).path
    small = ingot.quantize(str(base), out=tmp_path / "int8", bits=8).path
    report = evaluate(models=[base, small], data=data, heldout=True, out=tmp_path / "report")
    assert report.numbers["documents"] == len(expected(data, (0.2, 5)))
    method = report.sections[-1]
    assert isinstance(method, Prose)
    assert "held out" in method.text
    assert "was trained on" not in heard.text
