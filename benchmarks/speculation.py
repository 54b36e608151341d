"""Guessing what follows: what it gains where text repeats, and what it costs where it does not.

    python benchmarks/speculation.py                 # writes benchmarks/results/speculation-0.5b-DATE.json

A Qwen2-shaped model with random weights, whose likeliest tokens run in circles: its greedy text repeats. What it draws
at temperature 1, from a nearly flat distribution, does not. Each way of guessing writes the same texts in turns; the
tokens must be equal to those without guessing. How much a real text gains lies between the two; the share of right
guesses stands beside each figure.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS = {
    "off": {"kind": "off"},
    "lookup": {"kind": "lookup"},
    "self": {"kind": "self"},
    "lookup-always": {"kind": "lookup", "always": True},
}
NEW = 256


def write(engine: Any, texts: list[list[int]], repeats: bool) -> tuple[float, list[list[int]]]:
    """Tokens a second behind the prompts, and the tokens."""
    from ingot.infer.sampling import Sampling

    own = Sampling(temperature=0 if repeats else 1, seed=7, max_tokens=NEW, ignore_eos=True)
    found = [engine.submit(ids, own) for ids in texts]
    while any(sequence.is_reading for sequence in found):
        engine.step()
    done = sum(len(sequence.tokens) for sequence in found)
    began = time.perf_counter()
    while engine.has_work:
        engine.step()
    seconds = time.perf_counter() - began
    tokens = [sequence.tokens for sequence in found]
    return (sum(map(len, tokens)) - done) / seconds, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["0.1b", "0.5b", "1.7b"], default="0.5b")
    parser.add_argument("--weights", choices=["int8", "int4", "dense"], default="int8")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--folder", type=Path, help="where to keep the model (default: made anew)")
    args = parser.parse_args()
    import random

    from decode import MORE_SHAPES
    from pretrain import hardware
    from tune import SHAPES, make_model

    from ingot.adapt.load import load
    from ingot.infer.engine import Engine
    from ingot.infer.speculation.options import Speculation

    shape = (SHAPES | MORE_SHAPES)[args.shape]
    chooser = random.Random(0)
    texts = [[chooser.randrange(shape["vocab_size"] - 10) for _ in range(32)] for _ in range(8)]
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = args.folder or Path(place)
        if not (folder / "model").exists():
            make_model(folder / "model", shape, 4096)
        model = load(folder / "model", dtype=None, weights=args.weights)
        for batch, repeats in ((1, True), (1, False), (8, True), (8, False)):
            engines = {way: Engine(model, 8, speculation=Speculation(**given)) for way, given in WAYS.items()}
            speeds: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(args.turns):
                written = {}
                for way, engine in engines.items():
                    speed, written[way] = write(engine, texts[:batch], repeats)
                    speeds[way].append(speed)
                assert all(tokens == written["off"] for tokens in written.values()), "guessing changed a token"
            plain = statistics.median(speeds["off"])
            found[f"{'repeating' if repeats else 'random'} text, batch {batch}"] = {
                way: {"tokens_per_second": round(statistics.median(own), 1),
                      "of_plain": round(statistics.median(own) / plain, 3),
                      "right": engines[way].counters.accepted, "guessed": engines[way].counters.drafted}
                for way, own in speeds.items()
            }  # fmt: skip
    result = {"date": datetime.date.today().isoformat(), "hardware": hardware(), "shape": args.shape,
              "weights": args.weights, "ways": found}  # fmt: skip
    name = f"speculation-{args.shape}-{args.weights}-{result['date']}.json"
    (args.out or Path(__file__).parent / "results" / name).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
