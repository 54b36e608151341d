"""`data clean` as it is called: what the synthetic world has planted, accounts that add up, kills, refusals."""

from __future__ import annotations

import csv
import fcntl
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import ingot
from ingot.core.errors import IngotError
from ingot.core.report import Report
from ingot.data.clean import verb as clean_verb
from ingot.data.clean.options import REASONS
from ingot.data.clean.rules import RULES
from ingot.data.clean.units import hash_units, jaccard, normalise, shingles, split_units
from ingot.data.manifest import Manifest
from ingot.data.read import read_documents

DATA = Path(os.environ.get("INGOT_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
real = pytest.mark.skipif(not DATA.exists(), reason="no shared data folder (INGOT_DATA)")

ALL_RULES = list(RULES)
"""The world's documents are a sentence or two, which rules for web pages would drop."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ingot.world(tmp_path_factory.mktemp("made") / "world", people=8, places=4, copies=4, planted=24, seed=5).path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    return path


def refused(code: str, *args: Any, **options: Any) -> dict[str, Any]:
    with pytest.raises(IngotError) as caught:
        ingot.data_clean(*args, **options)
    assert caught.value.code == code
    return caught.value.details


def files_of(directory: Path) -> dict[str, bytes]:
    """Everything but the report, which holds the time it was made."""
    return {file.name: file.read_bytes() for file in directory.iterdir() if not file.name.startswith("report")}


def prose(number: int, words: int = 60) -> str:
    """A text of its own that no rule drops."""
    rng = random.Random(number)
    stems = ["river", "town", "valley", "farmer", "orchard", "spring", "visitor", "bank", "story", "flood", "bell"]
    names = [f"{rng.choice(stems)}{rng.randrange(999)}" for _ in range(words)]
    return " ".join(["the", "and", *(f"of {name}" if at % 6 == 0 else name for at, name in enumerate(names))]) + "."


@pytest.mark.slow
def test_planted_duplicates_and_personal_data_of_the_world(world: Path, tmp_path: Path) -> None:
    truth = json.loads((world / "truth.json").read_text("utf-8"))["planted"]
    cleaned = ingot.data_clean(world, out=tmp_path / "out", skip=ALL_RULES, workers=1)
    corpus, kept = lines_of(world / "corpus.jsonl"), lines_of(tmp_path / "out/corpus.jsonl")
    left = {record["line"] for record in kept}
    assert {record["source"] for record in kept} == {"corpus.jsonl"}

    near = truth["near-duplicate"]
    groups = [{*record["lines"], *record["of"]} for record in near]
    assert len(groups) == 48
    assert all(len(group & left) <= 1 for group in groups), "recall of planted near-duplicates is 1"
    canaries = [set(record["lines"]) for record in truth["canary"]]
    assert all(len(group & left) <= 1 for group in canaries)

    sets = {at: shingles(hash_units(split_units(normalise(record["text"]))), 5) for at, record in enumerate(corpus, 1)}
    by_line = {record["line"]: sets[record["line"]] for record in kept}
    blocked = {line for record in truth["personal-data"] if record["identifier"] == "card" for line in record["lines"]}
    for line in sets.keys() - left - blocked:  # precision: all that was dropped is as similar as was asked
        assert max(jaccard(sets[line], other) for other in by_line.values()) >= 0.75
    missed = [line for line, own in by_line.items()
              if any(other < line and jaccard(own, by_line[other]) >= 0.75 for other in by_line)]  # fmt: skip
    assert len(missed) <= 0.01 * (len(corpus) - len(kept))

    everything = (tmp_path / "out/corpus.jsonl").read_text("utf-8")
    report = (tmp_path / "out/report.json").read_text("utf-8") + (tmp_path / "out/report.html").read_text("utf-8")
    for record in truth["personal-data"]:
        assert record["value"] not in everything, record
        assert record["value"] not in report, record
    assert cleaned.tally.dropped["personal-data"] == len(blocked)


@pytest.mark.slow
def test_every_document_is_accounted_for(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_verb, "BLOCK_DOCUMENTS", 100)
    options: dict[str, Any] = {"limit": ["length=8:"], "skip": ["letters"], "workers": 1}
    cleaned = ingot.data_clean(world, out=tmp_path / "out", examples=4, **options)
    corpus, kept = lines_of(world / "corpus.jsonl"), lines_of(tmp_path / "out/corpus.jsonl")
    tally = cleaned.tally
    assert tally.documents == len(corpus)
    assert tally.kept == len(kept)
    assert tally.kept + sum(tally.dropped.values()) == tally.documents
    assert set(tally.dropped) <= set(REASONS)
    assert sum(tally.before.values()) == len(corpus)
    assert sum(tally.after.values()) == len(kept)
    assert tally.characters == sum(len(record["text"]) for record in corpus)
    assert tally.kept_characters == sum(len(record["text"]) for record in kept)
    assert [record["line"] for record in kept] == sorted(record["line"] for record in kept)
    assert all(record["licence"] == corpus[record["line"] - 1]["licence"] for record in kept)
    gone = [line for line in range(1, len(corpus) + 1) if line not in {record["line"] for record in kept}]
    shown = sorted(int(example.place.split(":")[1]) for found in tally.examples.values() for example in found)
    assert set(shown) <= set(gone)
    assert {reason: len(found) for reason, found in tally.examples.items()} == {
        reason: min(4, count) for reason, count in tally.dropped.items()}  # fmt: skip
    report = Report.open(tmp_path / "out")
    assert (report.numbers["documents"], report.numbers["kept_documents"]) == (len(corpus), len(kept))
    table = report.sections[0]
    assert sum(row[2] for row in table.rows) == len(corpus)  # type: ignore[union-attr, misc]


@pytest.mark.slow
def test_the_output_is_a_data_directory_with_its_licences(world: Path, tmp_path: Path) -> None:
    ingot.data_clean(world, out=tmp_path / "out", skip=ALL_RULES, workers=1)
    manifest = Manifest.read(tmp_path / "out")
    assert manifest is not None
    assert {entry.file for entry in manifest.sets} == {"corpus.jsonl", "heldout.jsonl", "questions.jsonl", "chat.jsonl"}
    for name in ("heldout.jsonl", "questions.jsonl", "chat.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (world / name).read_bytes()
    corpus = manifest.files("corpus")[0]
    licences = {record["licence"] for record in lines_of(tmp_path / "out/corpus.jsonl")}
    assert corpus.licence == " AND ".join(sorted(licences))
    assert corpus.source is not None
    assert "invented" in corpus.source
    assert sum(1 for _ in read_documents(tmp_path / "out")) == corpus.documents
    assert ingot.data_manifest(tmp_path / "out").manifest == manifest


@pytest.mark.slow
def test_processes_and_blocks_change_nothing(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = ingot.data_clean(world, out=tmp_path / "one", skip=ALL_RULES, workers=1)
    monkeypatch.setattr(clean_verb, "BLOCK_DOCUMENTS", 37)
    two = ingot.data_clean(world, out=tmp_path / "two", skip=ALL_RULES, workers=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert one.tally == two.tally
    first, second = (Report.open(tmp_path / name).model_dump(exclude={"created", "path"}) for name in ("one", "two"))
    assert first == second


@pytest.mark.slow
def test_killed_and_run_again_is_the_uninterrupted_result(world: Path, tmp_path: Path) -> None:
    """kill -9 after some blocks; what was finished is not done again, and the result is the same to the byte."""
    expected = ingot.data_clean(world, out=tmp_path / "whole", skip=ALL_RULES, workers=1)
    script = (
        "import ingot, ingot.data.clean.verb as verb, sys, json\n"
        "verb.BLOCK_DOCUMENTS = 10\n"
        "print(json.dumps(ingot.data_clean(**json.loads(sys.argv[1])).summary()))\n"
    )
    call = {"data": str(world), "out": str(tmp_path / "killed"), "skip": ALL_RULES, "workers": 2}
    command = [sys.executable, "-c", script, json.dumps(call)]
    place = tmp_path / ".killed.cleaning"
    process = subprocess.Popen(command)
    while len(list(place.glob("*/*.json"))) < 6:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # the workers see their input end
    assert not (tmp_path / "killed").exists()
    finished = {file.name: file.stat().st_mtime_ns for file in place.glob("*/0*.json")}
    assert finished
    watched = subprocess.run(
        [sys.executable, "-c", "import ingot.data.clean.block as b, os\n"
         "write = b.Block.write\n"
         "def spy(self, *args): print('DONE', self._counts.name, flush=True); write(self, *args)\n"
         "b.Block.write = spy\n" + script, json.dumps(call | {"workers": 1})],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    done = set(re.findall(r"DONE (\S+)", watched.stdout))
    assert done
    assert not done & finished.keys()
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert json.loads(watched.stdout.splitlines()[-1])["dropped"] == expected.summary()["dropped"]
    assert not place.exists()


def test_other_options_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_lines(tmp_path / "a.jsonl", [prose(number) for number in range(6)])
    monkeypatch.setattr(clean_verb, "write_manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ingot.data_clean(data, out=tmp_path / "out", workers=1)
    monkeypatch.undo()
    (old,) = (path for path in (tmp_path / ".out.cleaning").iterdir() if path.is_dir())
    assert (old / "000000.json").exists()
    with caplog.at_level(logging.INFO, logger="ingot"):
        ingot.data_clean(data, out=tmp_path / "out", workers=1, policy="off")
    assert "going on" not in caplog.text
    assert not (tmp_path / ".out.cleaning").exists()


def test_licences_and_sources_stay_with_their_documents(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number, name in enumerate(("a", "b", "c")):
        write_lines(data / f"{name}.jsonl", [prose(10 * number + at) for at in range(3)])
    ingot.data_manifest(data, file=["a*", "c*"], licence="MIT", source="one")
    ingot.data_manifest(data, licence="CC0-1.0", source="two")
    ingot.data_clean(data, out=tmp_path / "out", workers=1)
    manifest = Manifest.read(tmp_path / "out")
    assert manifest is not None
    assert [(e.file, e.licence, e.source, e.documents) for e in manifest.sets] == [
        ("corpus.jsonl", "MIT", "one", 6), ("b.jsonl", "CC0-1.0", "two", 3)]  # fmt: skip
    assert {record["source"] for record in lines_of(tmp_path / "out/corpus.jsonl")} == {"a.jsonl", "c.jsonl"}


@pytest.mark.slow
def test_languages_rules_and_limits_act(tmp_path: Path) -> None:
    chinese = "這條河流過老城旁邊，進入山谷，農家在那裡照顧果園已有好幾百年。每到春天，盛開的花吸引遠方的旅客前來。"
    data = write_lines(tmp_path / "a.jsonl", [prose(1), chinese + "他們沿著河岸散步。", "short one", " \n"])
    out = {name: tmp_path / name for name in ("plain", "zh", "mixed", "long", "skip")}
    assert ingot.data_clean(data, out=out["plain"], workers=1).tally.dropped == {"length": 1, "blank": 1}
    zh = ingot.data_clean(data, out=out["zh"], languages="zh-Hant", workers=1)
    assert (zh.tally.kept, zh.tally.dropped) == (1, {"language": 2, "blank": 1})
    assert lines_of(out["zh"] / "corpus.jsonl")[0]["language"] == "zh-Hant"
    assert ingot.data_clean(data, out=out["mixed"], languages="zh-Hant, en", workers=1).tally.kept == 2
    long = ingot.data_clean(data, out=out["long"], limit=["length=2:60"], workers=1)
    assert long.tally.dropped["length"] == 1
    skip = ingot.data_clean(data, out=out["skip"], skip=["length"], workers=1)
    assert skip.tally.dropped == {"blank": 1, "stop-words": 1}


def test_thresholds_and_policies_act(tmp_path: Path) -> None:
    base = prose(1, 300)
    changed = " ".join(word if at % 30 else "changed" for at, word in enumerate(base.split()))
    secret = f"{prose(2)} write to someone@example.org or call 0912-345-678 please."
    data = write_lines(tmp_path / "a.jsonl", [base, changed, base, secret])
    dropped = {}
    for threshold in (0.4, 0.99):
        cleaned = ingot.data_clean(data, out=tmp_path / str(threshold), threshold=threshold, workers=1)
        dropped[threshold] = dict(cleaned.tally.dropped)
        assert "someone@example.org" not in (tmp_path / str(threshold) / "corpus.jsonl").read_text()
    assert dropped == {0.4: {"exact-duplicate": 1, "near-duplicate": 1}, 0.99: {"exact-duplicate": 1}}
    off = ingot.data_clean(
        data, out=tmp_path / "off", policy="off", skip=["exact-duplicate", "near-duplicate"], workers=1
    )
    assert off.tally.kept == 4
    assert "someone@example.org" in (tmp_path / "off/corpus.jsonl").read_text()
    assert off.tally.scrubbed == 0


def test_benchmarks_are_found_in_both_languages(tmp_path: Path) -> None:
    english = "Which of these rivers rises in the highest mountains and ends in a desert far from any sea?"
    chinese = "下列哪一條河流發源於最高的山脈，最後在遠離海洋的沙漠中消失？"
    with (tmp_path / "mmlu.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [[english, "A, b", 'the "second"', "c", "d", "A"], ["1 + 1?", "1", "2", "3", "4", "B"]]
        )
    write_lines(tmp_path / "tmmlu.jsonl", ["短題"])
    with (tmp_path / "tmmlu.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"question": chinese, "choices": ["甲", "乙"]}, ensure_ascii=False) + "\n")
    (tmp_path / "more.txt").write_text(f"{prose(77)}\n\n")
    texts = [prose(1), f"{prose(2)} {english.upper()} {prose(3)}", f"{prose(4)}「{chinese}」", prose(77, 90),
             f"{prose(5)} {english[:50]}"]  # fmt: skip
    data = write_lines(tmp_path / "a.jsonl", texts)
    files = [tmp_path / name for name in ("mmlu.csv", "tmmlu.jsonl", "more.txt")]
    cleaned = ingot.data_clean(data, out=tmp_path / "out", against=files, workers=1)
    assert cleaned.tally.dropped == {"contamination": 3}
    assert [record["line"] for record in lines_of(tmp_path / "out/corpus.jsonl")] == [1, 5]
    report = (tmp_path / "out/report.json").read_text("utf-8")
    assert "which of these rivers rises in the highest mountains and ends in" in report
    assert "下列哪一條河流發源於最高的" in report
    short = next(section for section in cleaned.report.sections if section.title == "Benchmarks")
    assert [row[1:] for row in short.rows] == [[2, 1, 1], [2, 1, 1], [1, 0, 1]]  # type: ignore[union-attr]


@pytest.mark.slow
def test_refusals(tmp_path: Path) -> None:
    data = write_lines(tmp_path / "a.jsonl", [prose(1)])
    out = tmp_path / "out"
    refused("no-such-data", tmp_path / "none", out=out)
    assert refused("unknown-language", data, out=out, languages="zh-Hnt")["nearest"] == "zh-Hant"
    assert refused("unknown-rule", data, out=out, skip=["lenght"])["nearest"] == "length"
    assert refused("unknown-rule", data, out=out, limit=["lenght=3:"])["nearest"] == "length"
    refused("rule-not-skipped", data, out=out, skip=["language"])
    refused("rule-skipped-and-limited", data, out=out, skip=["length"], limit=["length=3:"])
    for limit in ("length", "length=3", "length=:", "length=9:3", "length=a:"):
        refused("bad-limit", data, out=out, limit=[limit])
    refused("bad-option", data, out=out, threshold=0)
    refused("no-such-policy", data, out=out, policy="strct")
    refused("clean-out-inside", tmp_path, out=out)
    refused("no-such-data", data, out=out, against=[tmp_path / "none.csv"])
    (tmp_path / "x.bin").write_bytes(b"x")
    refused("unknown-benchmark-type", data, out=out, against=[tmp_path / "x.bin"])
    (tmp_path / "empty.txt").write_text("\n")
    refused("empty-benchmark", data, out=out, against=[tmp_path / "empty.txt"])
    (tmp_path / "blank.jsonl").write_text("")
    refused("empty-corpus", tmp_path / "blank.jsonl", out=out)
    assert refused("clean-nothing-kept", data, out=out, limit=["length=9999:"])["reason"] == "length"
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    assert refused("bad-record", tmp_path / "bad.jsonl", out=out)["line"] == 2
    (tmp_path / "licence.jsonl").write_text('{"text": "a", "licence": "CC-BY"}\n')
    assert refused("unknown-licence", tmp_path / "licence.jsonl", out=out)["place"] == "licence.jsonl:1"
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    refused("out-not-empty", data, out=out)
    assert (out / "mine.txt").read_text() == "precious"


def test_a_worker_that_dies_and_a_place_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_lines(tmp_path / "a.jsonl", [prose(number) for number in range(8)])
    monkeypatch.setattr(clean_verb, "BLOCK_DOCUMENTS", 2)
    dies = [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(3)"]
    start = subprocess.Popen
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda command, **pipes: start(dies, **pipes))
        refused("clean-worker-died", data, out=tmp_path / "out", workers=2)
    place = tmp_path / ".out.cleaning"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused("clean-busy", data, out=tmp_path / "out", workers=1)
    assert ingot.data_clean(data, out=tmp_path / "out", workers=1).tally.kept == 8
    assert not place.exists()


def test_most_dropped_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_lines(tmp_path / "a.jsonl", [prose(1), "short", "shorter still"])
    with caplog.at_level(logging.WARNING, logger="ingot"):
        ingot.data_clean(data, out=tmp_path / "out", workers=1)
    assert "2 of 3" in caplog.text
    assert "length" in caplog.text


@real
@pytest.mark.slow
def test_real_pages_keep_most_and_lose_planted_benchmark_questions(tmp_path: Path) -> None:
    """300 pages of C4, 20 of which get an MMLU question put in; the others share none with 14,000 of MMLU."""
    pages = [record["text"] for record in lines_of(DATA / "02_text/c4_demo.jsonl")]
    mmlu = DATA / "04_benchmarks/mmlu/test"
    with (mmlu / "astronomy_test.csv").open(newline="", encoding="utf-8") as stream:
        questions = [row[0] for row in csv.reader(stream) if len(split_units(normalise(row[0]))) >= 13][:20]
    long = [at for at, page in enumerate(pages) if len(page) > 1500][:20]
    planted = [f"{page} {questions[long.index(at)]}" if at in long else page for at, page in enumerate(pages)]
    data = write_lines(tmp_path / "a.jsonl", planted)
    cleaned = ingot.data_clean(data, out=tmp_path / "out", against=[mmlu], skip=ALL_RULES, workers=1)
    left = {record["line"] - 1 for record in lines_of(tmp_path / "out/corpus.jsonl")}
    assert not left & set(long)
    assert cleaned.tally.dropped["contamination"] == 20
    clean = ingot.data_clean(DATA / "02_text/c4_demo.jsonl", out=tmp_path / "clean", workers=1)
    assert 0.75 < clean.tally.kept / 300 < 0.9


@real
@pytest.mark.slow
def test_real_chinese_loses_planted_questions_and_no_other(tmp_path: Path) -> None:
    """1,000 sentences of Wikipedia and as many poems against all of TMMLU: none of them is dropped for it."""
    sentences = (DATA / "02_text/zh_hant/ud_zh_hant_sentences.txt").read_text("utf-8").splitlines()
    poems = [record["text"] for record in lines_of(DATA / "02_text/zh_hant/tang_poems_first5000.jsonl")[:1000]]
    tmmlu = DATA / "04_benchmarks/tmmlu/tmmlu.jsonl"
    with tmmlu.open(encoding="utf-8") as stream:
        questions = [found for line in stream if (found := json.loads(line).get("question"))]
    long = [text for text in questions if len(split_units(normalise(text))) >= 40][:15]
    data = write_lines(tmp_path / "a.jsonl", [*sentences, *poems, *(f"前言。{text}後記。" for text in long)])
    cleaned = ingot.data_clean(data, out=tmp_path / "out", against=[tmmlu], skip=ALL_RULES, policy="off", workers=1)
    left = {record["line"] for record in lines_of(tmp_path / "out/corpus.jsonl")}
    assert not left & set(range(2001, 2016))
    assert cleaned.tally.dropped["contamination"] == 15
