"""Prompts and samplings that differ in every way, and an engine run to its end."""

from __future__ import annotations

import random

from ingot.infer.engine import Engine
from ingot.infer.sampling import Sampling
from ingot.infer.sequence import Event

LENGTHS = [1, 2, 5, 17, 40, 3, 90, 8]
MIXED = [
    Sampling(temperature=0, max_tokens=12, repetition_penalty=1.3),
    Sampling(seed=1, max_tokens=20),
    Sampling(seed=2, temperature=0.7, top_k=20, max_tokens=9),
    Sampling(seed=3, temperature=1.5, top_p=0.9, max_tokens=15),
    Sampling(seed=4, min_p=0.02, repetition_penalty=1.3, max_tokens=12),
    Sampling(seed=5, presence_penalty=0.5, frequency_penalty=0.5, max_tokens=1),
    Sampling(seed=-6, logit_bias={7: 3.0, 9: -100.0}, max_tokens=5),
    Sampling(seed=7, min_tokens=6, logit_bias={0: 4.0}, max_tokens=12),
]


def prompts(lengths: list[int] = LENGTHS, seed: int = 0) -> list[list[int]]:
    chooser = random.Random(seed)
    return [[chooser.randrange(4, 320) for _ in range(length)] for length in lengths]


def run(engine: Engine) -> list[Event]:
    events = []
    while engine.has_work:
        events += engine.step()
    return events
