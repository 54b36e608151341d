"""Prompts and samplings that differ in every way, and an engine run to its end."""

from __future__ import annotations

import random
from typing import Any

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

CONTROLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "constraint": ({}, {"constraint": {"regex": "[a-z]{3}"}}),
    "dola_layers": ({}, {"dola_layers": "low"}),
    "dola_relative_top": ({"dola_layers": "low"}, {"dola_relative_top": 0.9}),
    "guidance_scale": ({}, {"guidance_scale": 3.0}),
    "negative_prompt": ({"guidance_scale": 3.0}, {"negative_prompt": "a dog"}),
    "negative_prompt_ids": ({"guidance_scale": 3.0}, {"negative_prompt_ids": [70, 71, 72]}),
    "temperature": ({}, {"temperature": 0.01}),
    "top_k": ({}, {"top_k": 1}),
    "top_p": ({}, {"top_p": 0.01}),
    "seed": ({}, {"seed": 2}),
    "max_tokens": ({}, {"max_tokens": 3}),
    "stop": ({}, {"stop": ["e"]}),
    "min_p": ({}, {"min_p": 0.9}),
    "typical_p": ({}, {"typical_p": 0.05}),
    "top_n_sigma": ({}, {"top_n_sigma": 0.5}),
    "xtc_probability": ({}, {"xtc_probability": 1.0, "xtc_threshold": 0.003}),
    "xtc_threshold": ({"xtc_probability": 1.0}, {"xtc_threshold": 0.003}),
    "dynatemp_range": ({}, {"dynatemp_range": 0.6}),
    "dynatemp_exponent": ({"dynatemp_range": 0.6}, {"dynatemp_exponent": 40.0}),
    "mirostat": ({}, {"mirostat": 2, "mirostat_tau": 1.0}),
    "mirostat_tau": ({"mirostat": 2}, {"mirostat_tau": 1.0}),
    "mirostat_eta": ({"mirostat": 2, "mirostat_tau": 1.5}, {"mirostat_eta": 1.0}),
    "repetition_penalty": ({}, {"repetition_penalty": 5.0}),
    "presence_penalty": ({}, {"presence_penalty": 2.0}),
    "frequency_penalty": ({}, {"frequency_penalty": 2.0}),
    "penalty_last_n": ({"repetition_penalty": 5.0}, {"penalty_last_n": 2}),
    "dry_multiplier": ({"top_k": 4}, {"dry_multiplier": 5.0, "dry_allowed_length": 1}),
    "dry_base": ({"temperature": 0, "dry_multiplier": 1e-3, "dry_allowed_length": 1}, {"dry_base": 1e6}),
    "dry_allowed_length": ({"top_k": 4, "dry_multiplier": 5.0}, {"dry_allowed_length": 1}),
    "dry_penalty_last_n": ({"top_k": 4, "dry_multiplier": 5.0, "dry_allowed_length": 1}, {"dry_penalty_last_n": 2}),
    "dry_sequence_breakers": ({"top_k": 4, "dry_multiplier": 5.0, "dry_allowed_length": 1},
                              {"dry_sequence_breakers": list("aeiout ")}),
    "bad_words": ({}, {"bad_words": ["e", "a", " "]}),
    "force_words": ({}, {"force_words": ["xyz"]}),
    "allowed_token_ids": ({}, {"allowed_token_ids": [70, 71]}),
    "stop_token_ids": ({}, {"stop_token_ids": list(range(40, 100))}),
    "include_stop_in_output": ({"stop": ["e", "a", "t"]}, {"include_stop_in_output": True}),
    "min_tokens": ({}, {"min_tokens": 28}),
    "ignore_eos": ({}, {"ignore_eos": True}),
    "logit_bias": ({}, {"logit_bias": {"the": 5.0}}),
    "logprobs": ({}, {"logprobs": 3}),
    "prompt_logprobs": ({}, {"prompt_logprobs": 2}),
    "logprobs_mode": ({"logprobs": 0}, {"logprobs_mode": "processed"}),
}  # fmt: skip
"""Each control: what stands beside it, and a value with which the answer is another one. From the prompt and seed of
PLAIN, whose own answer repeats tokens and meets an end token."""

PLAIN: dict[str, Any] = {"seed": 180, "max_tokens": 60, "temperature": 0.7}


def prompts(lengths: list[int] = LENGTHS, seed: int = 0) -> list[list[int]]:
    chooser = random.Random(seed)
    return [[chooser.randrange(4, 320) for _ in range(length)] for length in lengths]


def run(engine: Engine) -> list[Event]:
    events = []
    while engine.has_work:
        events += engine.step()
    return events
