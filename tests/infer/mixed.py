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
RARER = [
    Sampling(seed=8, dry_multiplier=1.5, dry_allowed_length=1, temperature=0.3, max_tokens=40),
    Sampling(seed=9, dry_multiplier=3.0, dry_penalty_last_n=16, dry_sequence_breakers=["e", " c"], max_tokens=30),
    Sampling(seed=10, mirostat=2, mirostat_tau=3.0, mirostat_eta=0.4, max_tokens=30),
    Sampling(seed=11, xtc_probability=0.5, xtc_threshold=0.004, top_k=50, max_tokens=20),
    Sampling(seed=12, typical_p=0.3, dynatemp_range=0.9, dynatemp_exponent=0.5, max_tokens=20),
    Sampling(seed=13, top_n_sigma=1.0, bad_words=["a", "是", " c"], logit_bias={"the cat 天": 6.0}, max_tokens=30),
    Sampling(seed=14, stop_token_ids=list(range(40, 70)), min_tokens=3, max_tokens=30),
    Sampling(seed=15, allowed_token_ids=[0, 70, 71, 200], repetition_penalty=1.5, penalty_last_n=4, max_tokens=20),
]
"""What only remembers its tokens, or is seldom asked for."""


def prompts(lengths: list[int] = LENGTHS, seed: int = 0) -> list[list[int]]:
    chooser = random.Random(seed)
    return [[chooser.randrange(4, 320) for _ in range(length)] for length in lengths]


def run(engine: Engine) -> list[Event]:
    events = []
    while engine.has_work:
        events += engine.step()
    return events
