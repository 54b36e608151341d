"""Tokenizer speed: encoding against tokenizers and tiktoken, BPE training against tokenizers and rustbpe, in one run.

    python benchmarks/tokenizer.py                      # writes benchmarks/results/tokenizer-DATE.json
    python benchmarks/tokenizer.py --rounds 9 --data TEXTS

rustbpe is no dependency; `pip install --target FOLDER rustbpe` and PYTHONPATH=FOLDER bring it in for the run.

The sides take turns on the same text, one thread each, and must give equal ids (or merges); reported are medians of
CPU seconds, which other work on the machine disturbs less than the clock, and of the clock. BPE is learnt from three
megabytes, as encoded, and from tens of megabytes that do not repeat. tiktoken runs with the pattern that it ships for
GPT-2, whose vocabulary comes from the folder of real data. Memory, on a gigabyte: tokenizer_gigabyte.py.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

SIZE = 1_000_000
"""Bytes of each text, about."""


def texts(folder: Path) -> dict[str, str]:
    """English, Traditional Chinese and code, SIZE bytes each: from the folder of real data, code from the library."""
    english = (folder / "02_text/wiki_demo.txt").read_text()
    chinese = (folder / "02_text/zh_hant/ud_zh_hant_sentences.txt").read_text()
    code = "".join(file.read_text(errors="ignore") for file in sorted(Path(os.__file__).parent.glob("*.py")))
    wanted = {"english": english, "traditional chinese": chinese, "code": code}
    return {name: _sized(text) for name, text in wanted.items()}


def _sized(text: str) -> str:
    repeated = text * (1 + SIZE // len(text.encode()))
    return repeated.encode()[:SIZE].decode(errors="ignore")


def race(sides: dict[str, Callable[[], Any]], size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Megabytes (2**20) a second of each side, by CPU time and by the clock; the sides take turns."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides) if number % 2 else list(sides)[::-1]
        for name in names:
            cpu, clock = time.process_time(), time.perf_counter()
            sides[name]()
            spent[name].append((time.process_time() - cpu, time.perf_counter() - clock))
    rate = {name: [statistics.median(column) for column in zip(*times, strict=True)] for name, times in spent.items()}
    return {name: {"cpu_mib_s": round(size / 2**20 / cpu, 2), "clock_mib_s": round(size / 2**20 / clock, 2)}
            for name, (cpu, clock) in rate.items()}  # fmt: skip


def encoding(given: dict[str, str], directory: Path, rounds: int) -> dict[str, Any]:
    """Each text by ingot, tiktoken and tokenizers with the same vocabulary."""
    import tiktoken
    import tokenizers
    from tiktoken_ext.openai_public import r50k_pat_str

    from ingot.text.stream import token_bytes
    from ingot.text.tokenizer import Tokenizer

    ours = Tokenizer.open(directory)
    backend = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    vocab = {token: id for token, id in backend.get_vocab().items() if id not in ours.special_ids}
    ranks = {token_bytes(token): id for token, id in vocab.items()}
    theirs = tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={})
    ours.encode("x" * 200_000)
    found = {}
    for name, text in given.items():
        expected = backend.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == theirs.encode_ordinary(text) == expected, f"ids differ on {name}"
        sides: dict[str, Callable[[], Any]] = {
            "ingot": lambda text=text: ours.encode(text),  # type: ignore[misc]
            "tiktoken": lambda text=text: theirs.encode_ordinary(text),  # type: ignore[misc]
            "tokenizers": lambda text=text: backend.encode_batch_fast([text], add_special_tokens=False)[0].ids,  # type: ignore[misc]
        }
        found[name] = race(sides, len(text.encode()), rounds) | {"tokens": len(expected)}
    runs = {}
    for name, text in {"a": "a" * 10**6, "space": " " * 10**6, "space, then a": " " * 10**6 + "a"}.items():
        begin = time.process_time()
        ours.encode(text)
        runs[name] = round(time.process_time() - begin, 3)
    return {"texts": found, "seconds_for_a_megabyte_of": runs}


def long_lines(folder: Path) -> list[str]:
    """Some 30 MB that do not repeat: books, Wikipedia, Tang poems, and code of the installed packages. Their distinct
    words stay below the bound of what is learnt from, beyond which the merges may differ."""
    files = [*sorted((folder / "02_text").glob("*.txt")), *sorted((folder / "02_text/wikitext-2").glob("*.nounk.txt")),
             folder / "02_text/zh_hant/tang_poems_first5000.jsonl"]  # fmt: skip
    lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
    left = 24_000_000
    for file in sorted(Path(numpy.__file__).parents[1].glob("transformers/models/**/*.py")):
        text = file.read_text(errors="ignore")
        left -= len(text)
        if left < 0:
            break
        lines.append(text)
    return lines


def training(lines: list[str], vocab_size: int, rounds: int) -> dict[str, Any]:
    """BPE by each side's own trainer on one thread; ingot and tokenizers must learn the same merges. Memory is not
    told: the sides share a process."""
    import rustbpe
    import tokenizers
    from tokenizers import Regex, models, pre_tokenizers, trainers

    from ingot.text.learn import learn
    from ingot.text.learn.parts import SPECIALS
    from ingot.text.split import SPLIT
    from ingot.text.stream import byte_alphabet

    def library() -> tokenizers.Tokenizer:
        made = tokenizers.Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIALS),
            initial_alphabet=sorted(byte_alphabet()), show_progress=False,
        )  # fmt: skip
        made.train_from_iterator([lines], trainer)
        return made

    def rust() -> None:
        rustbpe.Tokenizer().train_from_iterator(iter(lines), vocab_size)

    merges = [
        json.loads(made.to_str())["model"]["merges"] for made in (learn([lines], "bpe", vocab_size).backend, library())
    ]
    assert merges[0] == merges[1], "merges differ"
    sides: dict[str, Callable[[], Any]] = {
        "ingot": lambda: learn([lines], "bpe", vocab_size),
        "tokenizers": library,
        "rustbpe (another pattern)": rust,
    }
    size = sum(len(line.encode()) for line in lines)
    begin = time.perf_counter()
    learn([lines], "bpe", vocab_size, os.cpu_count() or 1)
    both = size / 2**20 / (time.perf_counter() - begin)
    speed = race(sides, size, rounds) | {f"ingot, {os.cpu_count()} processes": {"clock_mib_s": round(both, 2)}}
    return {"vocab_size": vocab_size, "bytes": size, "speed": speed}


def processor() -> str:
    """The name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("INGOT_DATA", "../shared/data")))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()

    from ingot.text.import_verb import tokenizer_import

    given = texts(options.data)
    with tempfile.TemporaryDirectory() as folder:
        files = options.data / "08_tokenizers/cs336"
        for name in ("vocab.json", "merges.txt"):
            (Path(folder) / name).write_bytes((files / f"gpt2_{name}").read_bytes())
        tokenizer_import(folder, out=Path(folder) / "gpt2")
        result = {
            "date": datetime.date.today().isoformat(),
            "hardware": f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "load": os.getloadavg()[0],
            "encoding": encoding(given, Path(folder) / "gpt2", options.rounds),
            "training": [
                training(
                    [line for text in given.values() for line in text.splitlines(keepends=True)],
                    options.vocab_size,
                    max(1, options.rounds // 2),
                ),
                training(long_lines(options.data), 4 * options.vocab_size, 1),
            ],
        }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"tokenizer-{result['date']}.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
