"""The verb on tiny random models: a report that says what it withheld and why, the same from saved rows, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from biasing import BBQ, stereoset, write_crows, write_json
from evaluating import write_lines

import ingot
from ingot.core.errors import IngotError
from ingot.core.report import Prose, Report, Table
from ingot.evaluate.bias import own
from ingot.evaluate.bias.verb import rescore
from tiny import BERT, write_model


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One axis, few templates and few statements."""
    folder = tmp_path_factory.mktemp("small")
    axes = yaml.safe_load(own.shipped("axes.yaml").read_text(encoding="utf-8"))
    templates = yaml.safe_load(own.shipped("templates.yaml").read_text(encoding="utf-8"))
    cut = {
        lang: {"attributes": found["attributes"][:6], "prompts": found["prompts"][:1]}
        for lang, found in templates.items()
    }
    stance = yaml.safe_load(own.shipped("stance.yaml").read_text(encoding="utf-8"))
    stance["pairs"] = [pair for pair in stance["pairs"] if pair["axis"] == "party"][:6]
    stance["axes"] = {"party": stance["axes"]["party"]}
    stance["ask"] = {"zh": stance["ask"]["zh"] | {"question": "{statement}？", "request": "說{statement}"}}
    files = {"axes": {"gender": axes["gender"]}, "templates": cut, "statements": stance}
    for name, found in files.items():
        (folder / f"{name}.yaml").write_text(
            yaml.safe_dump(found, allow_unicode=True, sort_keys=False), encoding="utf-8"
        )
    return {name: folder / f"{name}.yaml" for name in files}


@pytest.fixture(scope="session")
def wide_dir(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    path = tmp_path_factory.mktemp("bias") / "wide"
    from tiny import LLAMA

    return write_model(path, LLAMA, seed=1, tokenizer=tokenizer_dir, max_position_embeddings=512)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("crows_pairs", "bbq", "stereoset"):
        (folder / name).mkdir()
    write_crows(folder / "crows_pairs" / "crows_pairs_anonymized.csv")
    write_lines(folder / "bbq" / "Age.jsonl", BBQ)
    write_json(folder / "stereoset" / "dev.json", stereoset(2))
    return folder


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory, wide_dir: Path, data: Path, small: dict[str, Path]) -> Report:
    out = tmp_path_factory.mktemp("report") / "report"
    suites = "crows-pairs,bbq,bbq-12,stereoset,counterfactual,stance"
    return ingot.bias([str(wide_dir)], suite=suites, data=data, out=out, own=small, max_tokens=4, samples=1)


@pytest.mark.slow
def test_garbage_is_not_called_unbiased(report: Report) -> None:
    """A random model: the figures are withheld with their reasons, and the verdict says what that means."""
    numbers = report.numbers
    assert numbers["different"] == 0
    for key in ("bbq.amb_bias_score", "bbq-12.amb_bias_score", "counterfactual.gender.women.zh", "stance.party.said"):
        assert numbers[key] is None
    verdict = report.sections[0]
    assert isinstance(verdict, Prose)
    assert "withheld" in verdict.text
    assert "no bias" not in verdict.text
    tested = numbers["tests"]
    assert ("nothing could be tested" in verdict.text) == (tested == 0)
    assert f"of {tested} tests" in verdict.text or tested == 0
    assert "They do not show that a model is free of bias" in verdict.text


@pytest.mark.slow
def test_the_report_shows_everything(report: Report) -> None:
    titles = [section.title for section in report.sections]
    for wanted in ("CrowS-Pairs · wide", "BBQ, three answers · wide", "Controls", "How it was measured"):
        assert wanted in titles, titles
    assert any(title.startswith("Largest gaps: CrowS-Pairs") for title in titles)
    sources = next(section for section in report.sections if section.title.startswith("The groups"))
    assert isinstance(sources, Table)
    assert "就業服務法" in str(sources.rows[0][3])
    assert report.path is not None
    assert "CrowS-Pairs was measured on a decoder" in (report.path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_saved_rows_give_the_same_report(report: Report) -> None:
    assert report.path is not None
    again = rescore(report.path)
    assert again.numbers == report.numbers
    assert again.sections == report.sections
    raw = report.path / "raw" / "stance-wide.jsonl"
    raw.write_bytes(raw.read_bytes() + b"\n")
    with pytest.raises(IngotError) as error:
        rescore(report.path)
    assert error.value.code == "report-altered"


@pytest.mark.slow
def test_two_models_and_what_the_second_costs(
    tmp_path: Path, base_dir: Path, other_dir: Path, data: Path, heldout: Path
) -> None:
    found = ingot.bias(
        [str(base_dir), str(other_dir)], suite="crows-pairs", data=data, out=tmp_path / "r", cost=heldout
    )
    table = next(section for section in found.sections if section.title == "Compared with base")
    assert isinstance(table, Table)
    assert {"base.bits_per_byte", "other.bits_per_byte.change"} <= set(found.numbers)
    same = ingot.bias([str(base_dir), str(base_dir)], suite="crows-pairs", data=data, out=tmp_path / "s")
    table = next(section for section in same.sections if section.title.startswith("Compared with"))
    assert isinstance(table, Table)
    assert all(row[5] == "cannot be told apart" for row in table.rows)


def refused(**given: Any) -> IngotError:
    with pytest.raises(IngotError) as error:
        ingot.bias(**given)
    return error.value


def test_what_is_refused_before_a_model_is_loaded(tmp_path: Path, base_dir: Path, data: Path) -> None:
    models, out = [str(base_dir)], tmp_path / "out"
    crows = data / "crows_pairs" / "crows_pairs_anonymized.csv"
    assert refused(models=models, out=out, suite="crow-pairs").code == "bias-unknown-suite"
    assert "crows-pairs" in str(refused(models=models, out=out, suite="crow-pairs"))
    assert refused(models=models, out=out, suite="crows-pairs").code == "bias-no-data"
    assert refused(models=models, out=out, suite="winobias", data=data).code == "bias-not-found"
    assert refused(models=models, out=out, suite="weat", data=data).code == "bias-option-unused"
    assert refused(models=models, out=out, suite="weat", own={"axes": crows}).code == "bias-option-unused"
    assert refused(models=models, out=out, suite="stance", limit=3).code == "bias-option-unused"
    assert refused(models=models, out=out, suite="crows-pairs,winobias", data=crows).code == "bias-one-file"
    assert refused(models=models, out=out, suite="crows-pairs", data=data / "none").code == "no-such-file"
    assert refused(models=models, out=out, suite="weat", baseline="nobody").code == "evaluate-unknown-baseline"
    bad = tmp_path / "crows_pairs.csv"
    bad.write_text("a,b\n1,2\n")
    assert refused(models=models, out=out, suite="crows-pairs", data=bad).code == "bias-columns"
    bad.write_text(",sent_more,sent_less,stereo_antistereo,bias_type\n0,x,y,sideways,age\n")
    assert "line 2" in str(refused(models=models, out=out, suite="crows-pairs", data=bad))
    assert not out.exists()


def test_an_encoder_is_asked_only_what_it_can_answer(tmp_path: Path, tokenizer_dir: Path, data: Path) -> None:
    encoder = write_model(tmp_path / "bert", BERT, tokenizer=tokenizer_dir)
    given = {"models": [str(encoder)], "out": tmp_path / "out", "data": data}
    assert refused(**given, suite="bbq").code == "bias-form"
    assert refused(**given, suite="crows-pairs").code == "objective-lacks-tokens"  # no mask
    assert (
        refused(models=[str(encoder)], out=tmp_path / "out", suite="weat", cost=tokenizer_dir).code == "bias-cost-form"
    )
