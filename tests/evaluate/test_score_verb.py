"""The verb `score`: what it reads and refuses, what the report holds, and that unlike scores never meet."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from scoring_texts import CHINESE, noisy

import ingot
from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError
from ingot.core.report import Interval, Report, Table
from ingot.evaluate.metrics.fluency import fluency
from ingot.evaluate.metrics.read import as_text, read_texts
from ingot.evaluate.metrics.registry import METRICS
from ingot.evaluate.metrics.signature import require_same, signatures_of

REFERENCES = [
    "今天天氣很好，我們去公園吧。",
    "台北101位於信義區。",
    "他昨天買了一本書。",
    "白日依山盡，黃河入海流。",
] * 6


def lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(f"{one}\n" for one in texts), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {
        "hyp": lines(tmp_path / "h.txt", noisy(REFERENCES, 0.1, 1)),
        "ref": lines(tmp_path / "r.txt", REFERENCES),
        "other": lines(tmp_path / "h2.txt", noisy(REFERENCES, 0.4, 2)),
        "short": lines(tmp_path / "short.txt", REFERENCES[:5]),
        "english": lines(tmp_path / "e.txt", ["the cat sat on the mat"] * len(REFERENCES)),
    }


def refused(code: str, **options: Any) -> str:
    with pytest.raises(IngotError) as error:
        ingot.score(**options)
    assert error.value.code == code
    return str(error.value)


def test_a_report(files: dict[str, Path], tmp_path: Path) -> None:
    made = ingot.score(metric="bleu,chrf,ter,rouge", hyp=files["hyp"], ref=[files["ref"]], against=files["other"],
                       out=tmp_path / "out")  # fmt: skip
    report = Report.open(tmp_path / "out")
    assert report.numbers == made.numbers
    assert isinstance(report.numbers["bleu"], Interval)
    assert report.numbers["bleu.signature"] == "nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:2.6.0"
    assert report.numbers["rouge1.p_value"] < 0.01  # type: ignore[operator]
    assert "better" in report.sections[0].text  # type: ignore[union-attr]
    worst = next(s for s in report.sections if isinstance(s, Table) and s.title == "Worst texts by bleu")
    rows = [json.loads(line) for line in (tmp_path / "out/raw/texts.jsonl").read_text().splitlines()]
    lowest = min(range(len(rows)), key=lambda number: rows[number]["scores"]["bleu"])
    assert worst.rows[0][2:] == [rows[lowest]["text"], rows[lowest]["references"][0]]
    assert rows[3]["against"] == files["other"].read_text().splitlines()[3]


def test_equal_chinese_texts_by_default(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.txt", CHINESE)
    found = ingot.score(metric="bleu,chrf,ter,rouge", hyp=path, ref=[path]).summary()
    assert [round(found[name], 9) for name in ("bleu", "chrf", "ter")] == [100, 100, 0]
    assert [found[name] for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")] == [1, 1, 1, 1]


def test_a_report_is_compared_with(files: dict[str, Path], tmp_path: Path) -> None:
    both = {"metric": "bleu,rouge", "ref": [files["ref"]]}
    ingot.score(hyp=files["other"], out=tmp_path / "other", **both)
    by_report = ingot.score(hyp=files["hyp"], against=tmp_path / "other", **both)
    by_file = ingot.score(hyp=files["hyp"], against=files["other"], **both)
    assert by_report.summary() == by_file.summary()
    message = refused("score-signatures", hyp=files["hyp"], against=tmp_path / "other", metric="bleu",
                      ref=[files["ref"]], bleu={"tokenize": "char"})  # fmt: skip
    assert "tok:char" in message
    assert "tok:zh" in message
    refused("score-references-differ", hyp=files["hyp"], against=tmp_path / "other", metric="bleu",
            ref=[files["english"]])  # fmt: skip
    (tmp_path / "other/raw/texts.jsonl").write_text("{}\n")
    refused("report-altered", hyp=files["hyp"], against=tmp_path / "other", **both)


@pytest.mark.slow
def test_reports_scored_otherwise_do_not_compare(files: dict[str, Path], tmp_path: Path) -> None:
    def made(name: str, **options: Any) -> dict[str, str]:
        return signatures_of(ingot.score(hyp=files["hyp"], ref=[files["ref"]], out=tmp_path / name, **options))

    zh, char = made("a", metric="bleu,chrf"), made("b", metric="bleu", bleu={"tokenize": "char"})
    assert require_same(zh, made("c", metric="chrf"), "c") == ["chrf"]
    with pytest.raises(IngotError, match="tok:zh"):
        require_same(zh, char, "b")
    with pytest.raises(IngotError) as error:
        require_same(char, made("d", metric="chrf"), "d")
    assert error.value.code == "score-metrics-differ"
    with pytest.raises(IngotError, match="is a report of ingot evaluate"):
        signatures_of(Report(title="x", verb="evaluate"))


def test_wrong_calls(files: dict[str, Path]) -> None:
    own = {"hyp": files["hyp"]}
    message = refused("score-lengths", metric="bleu", ref=[files["ref"], files["short"]], **own)
    assert "24" in message
    assert "has 5;" in message
    refused("score-lengths", metric="bleu", ref=[files["ref"]], against=files["short"], **own)
    assert "bleu" in refused("score-unknown-metric", metric="blue", ref=[files["ref"]], **own)
    refused("score-needs", metric="bleu", **own)
    refused("score-needs", metric="novelty", **own)
    refused("score-needs", metric="fluency", **own)
    refused("score-option-unused", metric="distinct", ref=[files["ref"]], **own)
    refused("score-option-unused", metric="bleu", ref=[files["ref"]], rouge={"stem": True}, **own)
    refused("score-spaces", metric="bleu", ref=[files["ref"]], bleu={"tokenize": "13a"}, **own)
    refused("score-spaces", metric="ter", ref=[files["ref"]], lang="en", **own)
    refused("score-loses", metric="rouge", ref=[files["ref"]], lang="en", **own)
    forced = ingot.score(metric="bleu,rouge", ref=[files["ref"]], lang="en", force=True, **own).numbers
    assert str(forced["bleu.signature"]).endswith("|forced:spaces-on-unspaced-text")
    assert str(forced["rouge1.signature"]).endswith("|forced:spaces-on-unspaced-text")


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [('{"text": "a"}\n{"text": null}\n', "score-not-text", "line 2"), ('{"text": NaN}\n', "score-not-text", "nan"),
     ('{"text": 3}\n', "score-not-text", "int 3"), ('"a"\n\n', "bad-record", "line 2"),
     ('{"txt": "a"}\n', "score-no-field", "--field"), ("", "score-empty-file", "no text"),
     ('{"text": "\\ud800"}\n', "bad-record", "surrogate")],
)  # fmt: skip
def test_records_that_are_no_text(tmp_path: Path, content: str, code: str, says: str) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(content)
    with pytest.raises(IngotError) as error:
        read_texts(path, "text", 100)
    assert error.value.code == code
    assert says in str(error.value)


def test_bytes_in_python_are_no_text() -> None:
    with pytest.raises(IngotError, match=r"line 2: expected a text, found bytes b'b'"):
        as_text(b"b", "hyp", 2)
    with pytest.raises(IngotError, match="line 1: expected a text, found NoneType"):
        as_text(None, "hyp", 1)


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_bytes(b"good\nbad \xff\n")
    with pytest.raises(IngotError) as error:
        read_texts(tmp_path / "h.txt", "text", 100)
    assert (error.value.code, error.value.details["line"], error.value.details["byte"]) == ("not-utf8", 2, 9)


def test_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_bytes("\ufeffa\r\n\nb  \u2028c".encode())
    assert read_texts(tmp_path / "h.txt", "text", 100) == ["a", "", "b  \u2028c"]
    (tmp_path / "h.csv").write_text("a")
    with pytest.raises(IngotError, match=r"\.txt, \.md, \.jsonl"):
        read_texts(tmp_path / "h.csv", "text", 100)


def test_a_long_line_costs_no_memory(tmp_path: Path) -> None:
    """Ten megabytes in one line, read up to the bound of one megabyte and refused."""
    path = tmp_path / "h.txt"
    path.write_bytes(b"fine\n" + b"x" * 10_000_000)
    tracemalloc.start()
    with pytest.raises(IngotError, match="line 2 is longer than 1,000,000 bytes"):
        read_texts(path, "text", 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_empty_texts_are_counted(files: dict[str, Path], tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    path = lines(tmp_path / "gaps.txt", ["", *REFERENCES[1:]])
    found = ingot.score(metric="bleu,rouge", hyp=path, ref=[files["ref"]]).summary()
    assert found["empty_texts"] == 1
    assert found["rouge1"] == pytest.approx(23 / 24)
    assert "1 of 24 texts are empty" in heard.text


def test_every_metric_by_name(files: dict[str, Path], tmp_path: Path, base_dir: Path) -> None:
    """All at once, in any language, with a report; intervals or a reason for each."""
    report = ingot.score(metric=",".join(METRICS), hyp=files["hyp"], ref=[files["ref"]], corpus=files["ref"],
                         model=str(base_dir), out=tmp_path / "out", distinct={"n": 2, "sample": 100},
                         paired={"draws": 100}, read={"examples": 2})  # fmt: skip
    names = [name.removesuffix(".signature") for name in report.numbers if name.endswith(".signature")]
    assert len(names) == 13
    assert all(isinstance(report.numbers[name], Interval) for name in names)
    assert report.numbers["novelty.corpus_documents"] >= 1  # type: ignore[operator]


def test_fluency_is_bits_per_byte(model: LanguageModel) -> None:
    from ingot.data.read import Document
    from ingot.evaluate import perplexity

    texts = ["the cat sat on the mat.", "天空是藍色的。", ""]
    found = fluency(texts, model)
    documents = [Document(one, "x", line) for line, one in enumerate(texts[:2], start=1)]
    rows = perplexity.measure(model, documents, _measured_as(found.signature))
    bits = sum(row["nats"] for row in rows) * perplexity.BITS
    assert found.value == pytest.approx(bits / sum(len(one.encode()) for one in texts), rel=1e-6)
    assert found.items is not None
    assert str(found.items[2]) == "nan"


def _measured_as(signature: str) -> Any:
    from evaluating import options_for

    parts = dict(pair.split(":", 1) for pair in signature.split("|"))
    return options_for(Path("x"), window=int(parts["window"]), stride=int(parts["stride"]))
