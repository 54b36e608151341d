"""Contamination scan: ingot's against lm-eval's Janitor, on the same corpus and items, in one run.

    python benchmarks/audit.py --lm-eval ENV/bin/python       # writes benchmarks/results/audit-DATE.json

The corpus is the texts of the folder of real data, English, Chinese, or half of each, again and again with numbers in
between until it has --megabytes. 100 items of MMLU and 100 of TMMLU stand in it: half of each word for word, half with
one word (or character) in ten replaced, left out or followed by another; as many others do not. Janitor (13-grams of
words between spaces, its defaults) reads --janitor-megabytes of the corpus, because it is slow; both sides take turns,
and reported are medians of CPU seconds, which other work on the machine disturbs less than the clock; ingot's include
its start and report. Janitor lists no items: one counts as found when a document has one of its 13-grams. Its compiled
helper is used where the environment has it.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

JANITOR = r"""
import contextlib, io, json, sys, time
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    from lm_eval.decontamination import janitor as module
items = json.load(open(sys.argv[1], encoding="utf-8"))
texts = [json.loads(line)["text"] for line in open(sys.argv[2], encoding="utf-8")]
quiet = io.StringIO()
with contextlib.redirect_stdout(quiet):
    janitor = module.Janitor()
    owners = {}
    for number, item in enumerate(items):
        janitor.register_contaminant(item)
        for gram in module.word_ngrams(janitor.normalize_string(item), janitor.ngram_n):
            owners.setdefault(gram, set()).add(number)
    began = time.process_time()
    for text in texts:
        janitor.clean(text)
    spent = time.process_time() - began
found = set()
for text in texts:
    for gram in module.word_ngrams(janitor.normalize_string(text), janitor.ngram_n):
        found |= owners.get(gram, set())
print(json.dumps({"seconds": spent, "found": sorted(found), "compiled": module.JANITOR_CPP}))
"""


def edited(rng: random.Random, text: str, chinese: bool) -> str:
    """One word or character in ten replaced, left out or followed by another."""
    kept: list[str] = []
    units = list(text) if chinese else text.split(" ")
    for unit in units:
        drawn = rng.random()
        if drawn >= 0.1:
            kept.append(unit)
        elif drawn < 0.05:
            kept.append(rng.choice(units))
        elif drawn < 0.075:
            kept += [unit, rng.choice(units)]
    return ("" if chinese else " ").join(kept)


def items(data: Path, rng: random.Random) -> dict[str, list[str]]:
    """200 items a language: question and choices, of thirteen words or characters at least."""
    files = sorted((data / "04_benchmarks/mmlu").rglob("*test*.csv"))
    rows = [row for file in files for row in csv.reader(file.open())]
    english = [f"{row[0]} {' '.join(row[1:5])}" for row in rows if len(row) > 5]
    lines = (data / "04_benchmarks/tmmlu/tmmlu.jsonl").read_text().splitlines()
    chinese = [f"{one['question']} {' '.join(one['choices'])}" for one in map(json.loads, lines) if "choices" in one]
    english = sorted({text for text in english if len(text.split()) >= 20})
    chinese = sorted({text for text in chinese if len(text) >= 30})
    return {"english": rng.sample(english, 200), "chinese": rng.sample(chinese, 200)}


def background(data: Path) -> dict[str, list[str]]:
    """Paragraphs in English, in Chinese, and half of the bytes each."""
    folder = data / "02_text"
    english = [text for name in ("wiki_demo.txt", "wikitext-2/wiki.test.nounk.txt")
               for text in (folder / name).read_text().split("\n") if len(text) > 200]  # fmt: skip
    poems = (folder / "zh_hant/tang_poems.jsonl").read_text().splitlines()
    modern = (folder / "zh_hant/ud_zh_hant_sentences.txt").read_text().splitlines()
    chinese = [json.loads(line)["text"] for line in poems] + modern
    size = min(sum(len(text.encode()) for text in texts) for texts in (english, chinese))
    return {"english": english, "chinese": chinese, "both": [*_first(english, size), *_first(chinese, size)]}


def _first(texts: list[str], size: int) -> list[str]:
    kept: list[str] = []
    for text in texts:
        if size <= 0:
            break
        kept.append(text)
        size -= len(text.encode())
    return kept


def write_corpus(path: Path, plain: list[str], planted: list[str], megabytes: float, rng: random.Random) -> float:
    """Documents of a few paragraphs until there are so many megabytes, the planted ones among the first; their size."""
    size, number = 0, 0
    with path.open("w", encoding="utf-8") as stream:
        while size < megabytes * 1e6 or number < len(planted):
            texts = [*rng.sample(plain, 4), planted[number]] if number < len(planted) else rng.sample(plain, 4)
            text = f"{number}. " + "\n".join(texts)
            stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            size += len(text.encode())
            number += 1
    return size / 1e6


def ours(bench: Path, corpus: Path, out: Path) -> dict[str, Any]:
    """The verb in a process of its own, start and report included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "ingot", "audit", "--corpus", str(corpus), "--against", str(bench), "--checks"]
    subprocess.run([*command, "contamination", "--out", str(out)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = [json.loads(line) for line in (out / "contamination.jsonl").read_text().splitlines()]
    found = [at for at, row in enumerate(rows) if row["verdict"] in ("verbatim", "edited")]
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": spent, "found": found, "peak_mb": round(after.ru_maxrss / 1024)}


def shares(found: list[int], given: dict[str, list[str]]) -> dict[str, float]:
    """Found by language: of those word for word, of those changed, and of those that are not there."""
    result, begin = {}, 0
    for language in given:
        for name, first in (("verbatim", 0), ("edited", 50), ("false", 100)):
            count = 100 if name == "false" else 50
            inside = sum(begin + first <= at < begin + first + count for at in found)
            result[f"{language} {name}"] = inside / count
        begin += 200
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm-eval", type=Path, help="the Python of an environment with lm-eval")
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--janitor-megabytes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("INGOT_DATA", "shared/data")))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    rng = random.Random(0)
    given, plain = items(options.data, rng), background(options.data)
    asked = [text for texts in given.values() for text in texts]
    planted = [text if at < 50 else edited(rng, text, language == "chinese")
               for language, texts in given.items() for at, text in enumerate(texts[:100])]  # fmt: skip
    result: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"}
    for language, texts in plain.items():
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "bench.jsonl").write_text("".join(json.dumps({"q": one}) + "\n" for one in asked))
            (place / "items.json").write_text(json.dumps(asked))
            large = write_corpus(place / "large.jsonl", texts, planted, options.megabytes, random.Random(1))
            small = write_corpus(place / "small.jsonl", texts, planted, options.janitor_megabytes, random.Random(1))
            result[language] = race(options, place, large, small, given)
    options.out.mkdir(exist_ok=True)
    path = options.out / f"audit-{datetime.date.today().isoformat()}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(result))


def race(options: argparse.Namespace, place: Path, large: float, small: float,
         given: dict[str, list[str]]) -> dict[str, Any]:  # fmt: skip
    """Both sides in turns."""
    own, peer = [], []
    for number in range(options.rounds):
        own.append(ours(place / "bench.jsonl", place / "large.jsonl", place / f"out{number}"))
        if options.lm_eval is not None:
            command = [str(options.lm_eval), "-c", JANITOR, str(place / "items.json"), str(place / "small.jsonl")]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peer.append(json.loads(done.stdout.splitlines()[-1]))
        print(time.strftime("%H:%M:%S"), own[-1]["seconds"], peer[-1]["seconds"] if peer else "", file=sys.stderr)
    result: dict[str, Any] = {
        "ingot": {"megabytes": round(large, 1), "found": shares(own[0]["found"], given),
                  "mb_per_cpu_second": round(large / statistics.median(one["seconds"] for one in own), 2),
                  "peak_mb": max(one["peak_mb"] for one in own)},
    }  # fmt: skip
    if peer:
        result["janitor"] = {
            "megabytes": round(small, 1), "found": shares(peer[0]["found"], given), "compiled": peer[0]["compiled"],
            "mb_per_cpu_second": round(small / statistics.median(one["seconds"] for one in peer), 3),
        }  # fmt: skip
        result["times_as_fast"] = round(
            result["ingot"]["mb_per_cpu_second"] / result["janitor"]["mb_per_cpu_second"], 1
        )
    return result


if __name__ == "__main__":
    main()
