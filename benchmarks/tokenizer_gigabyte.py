"""Learning 32,000 byte-level BPE tokens from a gigabyte, with the memory of all processes watched.

    python benchmarks/tokenizer_gigabyte.py               # writes benchmarks/results/tokenizer-gigabyte-DATE.json
    python benchmarks/tokenizer_gigabyte.py --megabytes 100 --vocab-size 8000

The corpus is made when it runs, half of its bytes English-like, half Chinese, and is gone afterwards. Words are
invented: word number r of either language is spelled from r in syllables (or characters), rarer ones longer, as in
Zipf's law of brevity. They are drawn by the law of Zipf and Mandelbrot, 1 / (r + 2.7)**1.05 over three million ranks,
so that ever new words come, as in real text (the result says how many). Sentences have commas, capitals and numbers;
Chinese has no spaces, so what is counted there is a run of characters between two marks, mostly seen once. That is the
hard case for memory: far more distinct words than the bound holds.

Peak memory is the largest sum of the resident memory of the process and its helpers, looked at every fifth of a second.
Pages that they share are counted in each of them, so the truth is a little lower.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tokenizer import processor

RANKS = 3_000_000
SENTENCES = 20_000
ONSETS = ["", "b", "br", "c", "ch", "d", "f", "g", "gr", "h", "k", "l", "m", "n", "p", "pr", "r", "s", "sh", "st", "t",
          "th", "tr", "v", "w"]  # fmt: skip
RIMES = ["a", "e", "i", "o", "u", "an", "ar", "el", "en", "er", "in", "ing", "ion", "it", "on", "or", "ous", "um", "y"]


def latin(rank: int) -> str:
    """One syllable for the first few hundred ranks, one more each time they run out."""
    parts = []
    while True:
        rank, syllable = divmod(rank, len(ONSETS) * len(RIMES))
        parts.append(ONSETS[syllable % len(ONSETS)] + RIMES[syllable // len(ONSETS)])
        if not rank:
            return "".join(parts)
        rank -= 1


def han(rank: int) -> str:
    """One of 400 characters, then two, three, ... of 4,000, each as often as its own number is small."""
    if rank < 400:
        return chr(0x4E00 + rank * 37 % 6000)
    draw = np.random.default_rng(rank)
    length = 2 if rank < 200_000 else 3 + rank % 2
    return "".join(chr(0x4E00 + int(4000 ** float(draw.random())) * 37 % 6000) for _ in range(length))


def write_corpus(file: Path, size: int) -> None:
    """Articles of ten sentences, one a line; each block half English, half Chinese by bytes."""
    words = [np.asarray([spell(rank) for rank in range(RANKS)], object) for spell in (latin, han)]
    shares = np.cumsum(1 / (np.arange(RANKS) + 2.7) ** 1.05)
    draw = np.random.default_rng(0)
    written = [0, 0]
    with file.open("w", encoding="utf-8") as stream:
        while sum(written) < size:
            chinese = written[1] < written[0]
            lengths = draw.integers(4, 24, SENTENCES)
            ranks = np.searchsorted(shares, draw.random(int(lengths.sum())) * shares[-1])
            block = (_chinese if chinese else _english)(words[chinese][ranks].tolist(), lengths.tolist(), draw)
            stream.write(block)
            written[chinese] += len(block.encode())


def _english(words: list[str], lengths: list[int], draw: np.random.Generator) -> str:
    sentences, at = [], 0
    years = draw.integers(0, 3000, len(lengths)).tolist()
    for number, length in enumerate(lengths):
        part = words[at : at + length]
        part[0] = part[0].capitalize()
        if number % 3 == 0:
            part[length // 2] += ","
        if number % 5 == 0:
            part.insert(length // 2, str(years[number]))
        sentences.append(" ".join(part) + ("?" if number % 11 == 0 else "."))
        at += length
    return "".join(" ".join(sentences[at : at + 10]) + "\n" for at in range(0, len(sentences), 10))


def _chinese(words: list[str], lengths: list[int], draw: np.random.Generator) -> str:
    sentences, at = [], 0
    clauses = draw.integers(2, 9, len(lengths)).tolist()
    for length, clause in zip(lengths, clauses, strict=True):
        end = at + length
        sentences.append("，".join("".join(words[n : min(n + clause, end)]) for n in range(at, end, clause)) + "。")
        at = end
    return "".join("".join(sentences[at : at + 10]) + "\n" for at in range(0, len(sentences), 10))


def watched(command: list[str]) -> tuple[str, float, int]:
    """(standard output, seconds, peak bytes of the process and its children together)."""
    begin, peak = time.perf_counter(), 0
    quiet = os.environ | {"INGOT_PROGRESS": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=quiet) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(resident, family(process.pid))))
            time.sleep(0.2)
        assert process.stdout
        output = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return output, time.perf_counter() - begin, peak


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "corpus.txt"
        begin = time.perf_counter()
        write_corpus(file, options.megabytes * 10**6)
        size, made = file.stat().st_size, time.perf_counter() - begin
        command = [sys.executable, "-m", "ingot", "tokenizer", "train", str(file), "--out", f"{folder}/tok",
                   "--vocab-size", str(options.vocab_size), "--threads", str(options.threads)]  # fmt: skip
        output, seconds, peak = watched(command)
    learnt: dict[str, Any] = json.loads(output.splitlines()[-1])
    names = ("vocab_size", "documents", "words", "distinct_words", "forgotten_share", "bytes_per_token")
    result = {
        "date": datetime.date.today().isoformat(),
        "hardware": f"{processor()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}",
        "load": round(os.getloadavg()[0], 2),
        "corpus_bytes": size,
        "seconds_to_make_it": round(made),
        "processes": options.threads,
        "seconds": round(seconds, 1),
        "mib_s": round(size / 2**20 / seconds, 2),
        "peak_rss_of_all_processes_mb": round(peak / 1e6),
        **{name: learnt[name] for name in names},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    name = "tokenizer-gigabyte" if options.megabytes == 1000 else f"tokenizer-{options.megabytes}mb"
    path = options.out / f"{name}-{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
