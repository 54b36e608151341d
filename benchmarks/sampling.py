"""What drawing a token costs: milliseconds a row at the vocabulary of Qwen (151,936), eight rows in a batch.

    python benchmarks/sampling.py            # writes benchmarks/results/sampling-DATE.json

Logits are random, once with a head as a language model has one (a few likely tokens), once flat, which no truncation
likes. Every control is timed in each round, so that a busy moment meets all alike; the figure is the median of the
rounds, in processor time of one thread, which other programs disturb least. The same draws with transformers'
processors and torch.multinomial stand beside them, for those that it has.
"""

from __future__ import annotations

import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

VOCABULARY, ROWS, ROUNDS = 151_936, 8, 9
CONTROLS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "plain": {},
    "temperature": {"temperature": 0.7},
    "top_k": {"top_k": 50},
    "top_p": {"top_p": 0.9},
    "min_p": {"min_p": 0.05},
    "typical_p": {"typical_p": 0.9},
    "top_n_sigma": {"top_n_sigma": 1.0},
    "xtc": {"xtc_probability": 1.0},
    "dynatemp": {"dynatemp_range": 0.5},
    "mirostat": {"mirostat": 2},
    "penalties": {"repetition_penalty": 1.1, "frequency_penalty": 0.1},
    "temperature+top_k+top_p": {"temperature": 0.7, "top_k": 20, "top_p": 0.8},
}


def logits(kind: str) -> Tensor:
    """Peaked: 50 tokens stand 12 above the rest, whose deviation is 3. Flat: a deviation of 0.3."""
    found = torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0)) * (
        3.0 if kind == "peaked" else 0.3
    )
    if kind == "peaked":
        found[:, :50] += 12
    return found


def ours(own: dict[str, Any], logits_BV: Tensor) -> Callable[[], object]:
    from ingot.infer.sampling import Request, Sampling, sample

    sampling = Sampling.of(**own)
    seen = {token: token % 3 for token in range(0, 30_000, 100)}
    requests = [Request(sampling, seed, 9, seen, frozenset({0}), mu=10.0) for seed in range(ROWS)]
    return lambda: sample(logits_BV, requests)


def peers(own: dict[str, Any], logits_BV: Tensor) -> Callable[[], object] | None:
    """transformers' processors in the order of its generate, and its draw; None for what it does not have."""
    from transformers.generation import logits_process as processors

    made: dict[str, Callable[[Any], Any]] = {
        "temperature": processors.TemperatureLogitsWarper,
        "top_k": processors.TopKLogitsWarper,
        "top_p": processors.TopPLogitsWarper,
        "min_p": processors.MinPLogitsWarper,
        "typical_p": processors.TypicalLogitsWarper,
    }
    if own.get("temperature") == 0:
        return lambda: logits_BV.argmax(-1)
    if not own.keys() <= made.keys():
        return None
    chain = [made[name](own[name]) for name in made if name in own]

    def draw() -> Tensor:
        scores = logits_BV
        for processor in chain:
            scores = processor(torch.empty(ROWS, 0, dtype=torch.long), scores)
        return torch.multinomial(scores.softmax(-1), 1)

    return draw


def measure(kind: str) -> dict[str, dict[str, float]]:
    """Medians for every control, in milliseconds a row."""
    given = logits(kind)
    sides = {name: {"ingot": ours(own, given), "transformers": peers(own, given)} for name, own in CONTROLS.items()}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS + 1):
        for name, both in sides.items():
            for side, draw in both.items():
                if draw is not None:
                    began = time.process_time()
                    draw()
                    times.setdefault((name, side), []).append((time.process_time() - began) * 1000 / ROWS)
    return {
        name: {side: round(statistics.median(times[name, side][1:]), 3) for side in both if (name, side) in times}
        for name, both in sides.items()
    }


def main() -> None:
    """Measure everything; write the result file and print it."""
    from pretrain import hardware

    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    figures = {
        "date": str(datetime.date.today()),
        "hardware": f"{hardware()}, one thread",
        "vocabulary": VOCABULARY,
        "rows": ROWS,
        "rounds": ROUNDS,
        "milliseconds_a_row": {kind: measure(kind) for kind in ("peaked", "flat")},
    }
    out = Path(__file__).parent / "results" / f"sampling-{figures['date']}.json"
    out.write_text(json.dumps(figures, indent=2) + "\n")
    print(out.read_text(), end="")


if __name__ == "__main__":
    main()
