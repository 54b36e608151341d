"""Which items are found in a corpus, planted word for word or changed; what is refused; scores split by it."""

from __future__ import annotations

import json
import math
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from auditing import edited, words, write_texts
from comparing import answers, documents, programs, write_report
from evaluating import write_lines

import ingot
from cases import first_fast
from ingot.core.errors import IngotError
from ingot.core.report import Interval
from ingot.data.read import read_documents
from ingot.evaluate.audit.split import judge_report, score
from ingot.evaluate.audit.verb import rescore
from ingot.evaluate.statistics import unpaired_difference, wilson

proportion = partial(pytest.importorskip, "statsmodels.stats.proportion")  # when a test first asks
Lines = list[dict[str, Any]]


def planted(tmp_path: Path, share: float) -> tuple[Path, Path, dict[str, str]]:
    """A corpus, a benchmark of 600 items, and how 75 of them stand in the corpus: 50 as they are (25 in Chinese), and
    25 with about `share` of their words or characters changed."""
    rng = random.Random(0)
    items, held, truth = Lines(), [], {}
    for number in range(600):
        lang = ("en", "zh")[number % 2]
        asked = {"question": words(rng, rng.randrange(12, 40), lang), "choices": [words(rng, 2, lang) for _ in "abcd"]}
        items.append({"id": f"q{number}", "subject": ("law", "art")[number % 2], "answer": "ABCD"[number % 4], **asked})
        whole = "\n".join([asked["question"], *asked["choices"]])
        around = words(rng, 50, lang), words(rng, 50, lang)
        if number < 50:
            truth[f"q{number}"] = "verbatim"
            held.append("\n".join([around[0], whole, around[1]]))
        elif number < 75:
            truth[f"q{number}"] = "edited"
            held.append("\n".join([around[0], edited(rng, whole.replace("\n", " "), lang, share), around[1]]))
    held += [words(rng, 80, ("en", "zh")[number % 2]) for number in range(800)]
    rng.shuffle(held)
    corpus = write_texts(tmp_path / "corpus.jsonl", held)
    return corpus, write_lines(tmp_path / "bench.jsonl", items), truth


@first_fast("share", [0.05, 0.12])
def test_planted_items_are_found_and_no_others(share: float, tmp_path: Path) -> None:
    corpus, bench, truth = planted(tmp_path, share)
    report = ingot.audit(corpus=corpus, against=[bench], out=tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out/contamination.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"q{number}" for number in range(600)]
    found = {row["id"] for row in rows if row["verdict"] in ("verbatim", "edited")}
    as_is, changed = ({key for key, how in truth.items() if how == kind} for kind in ("verbatim", "edited"))
    assert len(found & as_is) >= 0.95 * len(as_is)
    assert len(found & changed) >= 0.8 * len(changed)
    assert len(found - set(truth)) <= 0.01 * (600 - len(truth))
    assert all(row["verdict"] == "verbatim" for row in rows if truth.get(row["id"]) == "verbatim")
    texts = {one.line: one.text for one in read_documents(corpus)}
    for row in json_rows(tmp_path / "out/raw/contamination.jsonl"):
        if row["verdict"] == "verbatim":
            line = int(row["place"].rpartition(":")[2])
            assert row["text"].split("\n")[0] in texts[line]
    shown = report.numbers["contaminated"]
    assert isinstance(shown, Interval)
    assert shown.value == len(found) / 600


def json_rows(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_question_alone_is_enough_and_a_choice_alone_is_not(tmp_path: Path) -> None:
    rng = random.Random(1)
    records = [{"id": number, "question": words(rng, 20, "zh"), "choices": [words(rng, 9, "zh") for _ in "abcd"]}
               for number in range(3)]  # fmt: skip
    bench = write_lines(tmp_path / "b.jsonl", records)
    corpus = write_texts(tmp_path / "c.jsonl", [records[0]["question"], records[1]["choices"][0], words(rng, 99, "zh")])
    ingot.audit(corpus=corpus, against=[bench], out=tmp_path / "out")
    rows = json_rows(tmp_path / "out/contamination.jsonl")
    assert [row["verdict"] for row in rows] == ["verbatim", "clean", "clean"]
    assert rows[0]["part"] == "question"


def test_a_choice_in_a_cell_of_its_own_is_no_item(tmp_path: Path) -> None:
    rng = random.Random(8)
    cells = [words(rng, 40, "zh"), *(words(rng, 10, "zh") for _ in "abcd")]
    (tmp_path / "b.csv").write_text(",".join(cells) + "\n", encoding="utf-8")
    corpus = write_texts(tmp_path / "c.jsonl", [f"{words(rng, 30, 'zh')}\n{cells[1]}\n{words(rng, 30, 'zh')}"])
    ingot.audit(corpus=corpus, against=[tmp_path / "b.csv"], out=tmp_path / "out")
    assert [row["verdict"] for row in json_rows(tmp_path / "out/contamination.jsonl")] == ["clean"]


def test_short_items_are_told_and_not_called_clean(tmp_path: Path) -> None:
    bench = write_lines(tmp_path / "b.jsonl", [{"q": "how are you"}, {"q": words(random.Random(0), 30, "en")}])
    corpus = write_texts(tmp_path / "c.jsonl", ["how are you today"])
    report = ingot.audit(corpus=corpus, against=[bench], out=tmp_path / "out")
    assert report.numbers["items_short"] == 1
    assert [row["verdict"] for row in json_rows(tmp_path / "out/contamination.jsonl")] == ["short", "clean"]


def test_files_of_every_kind(tmp_path: Path) -> None:
    rng = random.Random(4)
    asked = [words(rng, 20, "zh") for _ in range(4)]
    (tmp_path / "a.csv").write_text(f"{asked[0]},甲,乙,A\n", encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps({"canary": "x", "examples": [{"input": asked[1]}]}), encoding="utf-8")
    (tmp_path / "c.txt").write_text(f"{asked[2]}\n", encoding="utf-8")
    write_lines(tmp_path / "d.jsonl", [{"task_id": "T/0", "prompt": asked[3]}])
    corpus = write_texts(tmp_path / "corpus.jsonl", asked)
    files = [tmp_path / name for name in ("a.csv", "b.json", "c.txt", "d.jsonl")]
    ingot.audit(corpus=corpus, against=files, out=tmp_path / "out")
    rows = json_rows(tmp_path / "out/contamination.jsonl")
    assert [row["id"] for row in rows] == ["a.csv:1", "b.json:1", "c.txt:1", "T/0"]
    assert all(row["verdict"] == "verbatim" for row in rows[1:])
    assert rows[0]["verdict"] in ("verbatim", "edited")  # its choices stand nowhere


@pytest.mark.slow
def test_scores_are_split_by_what_is_dirty(tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    corpus, bench, truth = planted(tmp_path, 0.05)
    right = [f"q{number}" in truth or number % 3 == 0 for number in range(600)]
    found = [row | {"id": f"bench/q{number}" if number % 2 else f"q{number}"} for number, row in
             enumerate(answers(right))]  # fmt: skip
    asked = write_report(tmp_path / "report", m={"answers": found, "documents": documents([50.0] * 20)})
    report = ingot.audit(corpus=corpus, against=[bench], report=asked, out=tmp_path / "out")
    assert "bits_per_byte of m is not split: 0 of its 20 items" in heard.text
    rows = {row["id"]: row["verdict"] for row in json_rows(tmp_path / "out/contamination.jsonl")}
    dirty = {key for key, verdict in rows.items() if verdict != "clean"}
    clean = [number for number in range(600) if f"q{number}" not in dirty]
    overall, among_clean, among_dirty, difference = (
        report.numbers[f"m.told.{name}"] for name in ("overall", "clean", "dirty", "dirty_minus_clean")
    )
    assert isinstance(overall, Interval)
    assert overall.value == sum(right) / 600
    assert isinstance(among_clean, Interval)
    assert among_clean.value == sum(right[n] for n in clean) / len(clean)
    assert isinstance(among_dirty, Interval)
    assert among_dirty.value == 1.0
    assert isinstance(difference, Interval)
    assert difference.low > 0.5
    assert rescore(tmp_path / "out").numbers == report.numbers


def test_a_report_about_other_items_is_refused(tmp_path: Path) -> None:
    rows = [{"id": "q1", "file": "b.jsonl", "line": 1, "verdict": "clean"}]
    with pytest.raises(IngotError, match="at best 0 of 3"):
        judge_report(write_report(tmp_path / "report", m={"answers": answers([True] * 3, prefix="z")}), rows)


def test_what_is_no_share_is_split_as_well(tmp_path: Path) -> None:
    """Bits per byte of documents, by file and line, and pass@1 of several programs, against the ratio of their sums."""
    rows = [{"id": f"d{n}", "file": "0", "line": n, "verdict": "clean" if n % 2 else "edited"} for n in range(8)]
    rows = [row | {"file": "here", "id": f"T/{row['line']}"} for row in rows]
    nats = [10.0 * (n + 1) for n in range(8)]
    texts = [row | {"document": f"folder/here:{n}"} for n, row in enumerate(documents(nats))]
    passed = [[n % 4 == 0, n % 2 == 0, False] for n in range(8)]
    report = write_report(tmp_path / "report", m={"documents": texts, "humaneval": programs(passed)})
    found = score(judge_report(report, rows), 0).numbers
    dirty, clean = sum(nats[::2]) / 400 / math.log(2), sum(nats[1::2]) / 400 / math.log(2)
    for name, value in (("dirty", dirty), ("clean", clean), ("dirty_minus_clean", dirty - clean)):
        cell = found[f"m.bits_per_byte.{name}"]
        assert isinstance(cell, Interval)
        assert cell.value == pytest.approx(value, rel=1e-12)
        assert cell.low < cell.value < cell.high
    share = found["m.humaneval.pass@1.dirty"]
    assert isinstance(share, Interval)
    assert share.value == pytest.approx(sum(map(sum, passed[::2])) / 12, rel=1e-12)


@pytest.mark.parametrize(("first", "second"), [((8, 10), (5, 30)), ((0, 5), (7, 7)), ((3, 3), (3, 3))])
def test_the_difference_of_independent_shares(first: tuple[int, int], second: tuple[int, int]) -> None:
    found = unpaired_difference(wilson(*first), wilson(*second))
    low, high = proportion().confint_proportions_2indep(*first, *second, method="newcomb", compare="diff")
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)
    assert unpaired_difference(wilson(1, 2), wilson(0, 0)).value is None


@pytest.mark.parametrize(
    ("lines", "code", "words_said"),
    [
        ([{"id": 1, "q": "a"}, {"id": 1, "q": "b"}], "audit-id-twice", "line 2 repeats the id '1' of line 1"),
        ([], "empty-benchmark", "bench.jsonl"),
    ],
)
def test_wrong_benchmarks_are_named(lines: Lines, code: str, words_said: str, tmp_path: Path) -> None:
    bench = write_lines(tmp_path / "bench.jsonl", lines)
    corpus = write_texts(tmp_path / "c.jsonl", ["some text"])
    with pytest.raises(IngotError, match=words_said) as caught:
        ingot.audit(corpus=corpus, against=[bench], out=tmp_path / "out")
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    bench = write_lines(tmp_path / "bench.jsonl", [{"q": words(random.Random(0), 20, "en")}])
    (tmp_path / "c.txt").write_bytes("天空\n".encode() + b"\xff\xfe\n")
    with pytest.raises(IngotError, match=r"c\.txt") as caught:
        ingot.audit(corpus=tmp_path / "c.txt", against=[bench], out=tmp_path / "out")
    assert caught.value.code == "not-utf8"
    (tmp_path / "c.txt").write_bytes(b"")
    with pytest.raises(IngotError) as caught:
        ingot.audit(corpus=tmp_path / "c.txt", against=[bench], out=tmp_path / "out")
    assert caught.value.code in ("empty-corpus", "blank-corpus")
