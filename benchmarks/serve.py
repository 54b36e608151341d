"""Serving on a CPU: what sharing beginnings saves, what many streams gain, what the server adds, how fast it starts.

    python benchmarks/serve.py                       # writes benchmarks/results/serve-0.5b-DATE.json
    python benchmarks/serve.py --weights int4 --shape 1.7b

A Qwen2-shaped model with random weights. In one process, over the engine: the time to the first token of 2,048 tokens
read anew, and of the same with 95 % of them in the cache, whose tokens must be equal; tokens a second of one stream and
of eight; the gaps between the tokens of seven streams while a prompt of 4,096 tokens is read beside them. Then over
HTTP: a server is started, timed from the command to its first answer (the weights packed once before), and asked; what
it adds to the first token is the median over HTTP less the median of the engine alone, in turns.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROMPT, CACHED, LONG, NEW = 2048, 0.95, 4096, 48


class Asked:
    """An engine and what is asked of it."""

    def __init__(self, folder: Path, weights: str, vocab: int) -> None:
        from ingot.adapt.load import load
        from ingot.infer.engine import Engine

        self.engine = Engine(load(folder / "model", dtype=None, weights=weights), num_slots=8)
        self.chooser, self.vocab = random.Random(0), vocab

    def ids(self, length: int) -> list[int]:
        return [self.chooser.randrange(self.vocab - 10) for _ in range(length)]

    def submit(self, ids: list[int], tokens: int, salt: str = "") -> Any:
        from ingot.infer.sampling import Sampling

        return self.engine.submit(ids, Sampling(temperature=0, max_tokens=tokens, ignore_eos=True), salt)

    def run(self) -> list[float]:
        """Seconds of each step until all is done."""
        seconds = []
        while self.engine.has_work:
            began = time.perf_counter()
            self.engine.step()
            seconds.append(time.perf_counter() - began)
        return seconds

    def first_token(self, ids: list[int], salt: str = "") -> tuple[float, list[int], int]:
        sequence = self.submit(ids, 4, salt)
        began = time.perf_counter()
        while not sequence.tokens:
            self.engine.step()
        seconds = time.perf_counter() - began
        self.run()
        return seconds, sequence.tokens, sequence.num_hit


def shared_beginnings(asked: Asked) -> dict[str, Any]:
    """Cold and warm first tokens in turns, each pair with a beginning of its own."""
    cold, warm = [], []
    for _ in range(4):
        begin, end = asked.ids(int(PROMPT * CACHED)), asked.ids(PROMPT - int(PROMPT * CACHED))
        asked.first_token([*begin, *asked.ids(len(end))])
        seconds, tokens, hit = asked.first_token([*begin, *end])
        warm.append(seconds)
        assert hit >= len(begin) - 16
        seconds, again, hit = asked.first_token([*begin, *end], salt="a stranger's")
        cold.append(seconds)
        assert hit == 0
        assert again == tokens, "a cached prompt gave other tokens"
    share = statistics.median(warm) / statistics.median(cold)
    return {"cold_s": round(statistics.median(cold), 4), "warm_s": round(statistics.median(warm), 4),
            "share": round(share, 4)}  # fmt: skip


def streams(asked: Asked) -> dict[str, Any]:
    """One stream and eight, in turns."""
    speeds: dict[int, list[float]] = {1: [], 8: []}
    for _ in range(3):
        for count in speeds:
            for _ in range(count):
                asked.submit(asked.ids(32), NEW)
            steps = asked.run()[4:]
            speeds[count].append(count / statistics.median(steps))
    one, eight = (statistics.median(speeds[count]) for count in (1, 8))
    return {"one_tokens_s": round(one, 1), "eight_tokens_s": round(eight, 1), "ratio": round(eight / one, 2)}


def beside_a_long_prompt(asked: Asked) -> dict[str, Any]:
    """Gaps between tokens of seven streams, alone and while a long prompt is read."""
    running = [asked.submit(asked.ids(32), 4 * NEW + LONG // 16) for _ in range(7)]
    alone, beside = [], []
    while any(sequence.is_reading for sequence in running):
        asked.engine.step()
    for _ in range(NEW):
        began = time.perf_counter()
        asked.engine.step()
        alone.append(time.perf_counter() - began)
    long = asked.submit(asked.ids(LONG), 1)
    while not long.tokens:
        began = time.perf_counter()
        events = asked.engine.step()
        beside.append(time.perf_counter() - began)
        assert {event.sequence for event in events} >= set(running)
    for sequence in running:
        asked.engine.cancel(sequence)
    median, worst = statistics.median(alone), statistics.quantiles(beside, n=100)[98]
    return {"gap_alone_s": round(median, 4), "gap_beside_p50_s": round(statistics.median(beside), 4),
            "gap_beside_p99_s": round(worst, 4), "ratio_p99": round(worst / median, 2),
            "read_s": round(sum(beside), 2)}  # fmt: skip


def over_http(folder: Path, weights: str, asked: Asked) -> dict[str, Any]:
    """From the command to the first answer, and what HTTP adds to a first token."""
    import httpx

    command = [sys.executable, "-m", "ingot", "serve", str(folder / "model"), "--weights", weights, "--port", "0",
               "--policy", "off"]  # fmt: skip
    starts, added, direct = [], [], []
    for _ in range(3):
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        try:
            url = next(word for line in process.stdout for word in line.split() if word.startswith("http://"))
            with httpx.Client(base_url=url.partition("/v1")[0].rstrip("/.,"), timeout=60) as client:
                first_token_over_http(client, asked.ids(16))
                starts.append(time.perf_counter() - began)
                for _ in range(40):
                    ids = asked.ids(16)
                    added.append(first_token_over_http(client, ids))
                    direct.append(asked.first_token(ids)[0])
        finally:
            process.terminate()
            process.wait(30)
    extra = statistics.median(added) - statistics.median(direct)
    return {"start_to_first_answer_s": round(statistics.median(starts), 2),
            "first_token_http_ms": round(1e3 * statistics.median(added), 2),
            "first_token_engine_ms": round(1e3 * statistics.median(direct), 2),
            "added_ms": round(1e3 * extra, 2)}  # fmt: skip


def first_token_over_http(client: Any, ids: list[int]) -> float:
    body = {"model": "model", "prompt": ids, "max_tokens": 4, "temperature": 0, "stream": True, "ignore_eos": True}
    began = time.perf_counter()
    with client.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200, response.read()
        lines = response.iter_lines()
        next(line for line in lines if line.startswith("data: "))
        seconds = time.perf_counter() - began
        list(lines)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["0.1b", "0.5b", "1.7b"], default="0.5b")
    parser.add_argument("--weights", choices=["int8", "int4", "dense"], default="int8")
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--folder", type=Path, help="where to keep the model (default: made anew)")
    args = parser.parse_args()
    from decode import MORE_SHAPES, roofline
    from pretrain import hardware
    from tune import SHAPES, make_model

    shape = (SHAPES | MORE_SHAPES)[args.shape]
    with tempfile.TemporaryDirectory() as place:
        folder = args.folder or Path(place)
        if not (folder / "model").exists():
            make_model(folder / "model", shape, 2 * LONG)
        asked = Asked(folder, args.weights, shape["vocab_size"])
        asked.first_token(asked.ids(64))
        result = {
            "date": datetime.date.today().isoformat(), "hardware": hardware(), "limits": roofline(),
            "shape": args.shape, "weights": args.weights, "shared_beginnings": shared_beginnings(asked),
            "streams": streams(asked), "beside_a_long_prompt": beside_a_long_prompt(asked),
            "http": over_http(folder, args.weights, asked),
        }  # fmt: skip
    name = f"serve-{args.shape}-{args.weights}-{result['date']}.json"
    (args.out or Path(__file__).parent / "results" / name).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
