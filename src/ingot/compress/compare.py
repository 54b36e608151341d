"""How far a smaller or merged model is from the one it came from: KL divergence, top-1 agreement, bits per byte, speed.

The contexts compared in are held-out text where the user has some. Without, they are drawn from the original itself
at temperature 1, so a figure stands beside every result; bits per byte need real text. KL is that of the next-token
distributions, original || result, exact at each position and averaged over positions. Each document begins after the
tokenizer's own prefix (else BOS, else EOS), unscored, and is read in disjoint windows; its tokens are scored once each.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError
from ingot.core.language import text
from ingot.core.progress import say
from ingot.data.manifest import heldout_files
from ingot.data.read import read_documents
from ingot.infer.engine import generate
from ingot.infer.likelihood import compare_models
from ingot.infer.sampling import Sampling

SAMPLED_ROWS = 16
SAMPLED_LENGTH = 64
TIMED_PROMPT = 8
TIMED_TOKENS = 16
TIMED_RUNS = 3


@dataclass(frozen=True)
class Probe:
    """Rows of ids to compare on. `num_bytes`: UTF-8 bytes of the scored text, None for tokens drawn from the model."""

    rows: list[list[int]]
    num_bytes: int | None
    documents: int


def make_probe(model: LanguageModel, data: Path | None, max_tokens: int, seed: int) -> Probe:
    """Held-out text cut into the model's windows, about `max_tokens` of it, or tokens drawn from the model."""
    return _from_data(model, data, max_tokens, seed) if data else _from_model(model, max_tokens, seed)


def compare(before: LanguageModel, after: LanguageModel, probe: Probe) -> dict[str, Any]:
    """Plain numbers. `kl` in nats a token with its standard error, `bits_per_byte` where there is text."""
    found = compare_models(before, after, probe.rows, text("comparing"))
    numbers: dict[str, Any] = {
        "kl": max(0.0, found.kl_mean),
        "kl_stderr": found.kl_stderr,
        "top1_agreement": found.top1_agreement,
        "compared_tokens": found.num_tokens,
        "compared_on": "data" if probe.num_bytes else "samples",
    }
    if probe.num_bytes:
        bits = math.log(2) * probe.num_bytes
        numbers["bits_per_byte_before"] = found.nll_a / bits
        numbers["bits_per_byte"] = found.nll_b / bits
        numbers["bits_per_byte_change"] = found.nll_b / found.nll_a - 1
    return numbers


def tell(name: str, numbers: dict[str, Any]) -> None:
    """Say what `compare` found. `name`: the original."""
    source = text("compared-on-data" if numbers["compared_on"] == "data" else "compared-on-samples")
    found = {"kl": numbers["kl"], "stderr": numbers["kl_stderr"], "top1": numbers["top1_agreement"]}
    say("compared", name=name, tokens=numbers["compared_tokens"], source=source, **found)
    if "bits_per_byte" in numbers:
        before, after = numbers["bits_per_byte_before"], numbers["bits_per_byte"]
        say("bits-per-byte", name=name, before=before, after=after, change=numbers["bits_per_byte_change"])


def tokens_per_second(models: list[LanguageModel], probe: Probe) -> list[float]:
    """Speed of writing alone, best of TIMED_RUNS, the models taking turns so that a busy machine slows them alike."""
    prompt = probe.rows[0][:TIMED_PROMPT]
    tokens = max(1, min(TIMED_TOKENS, models[0].max_length - len(prompt)))
    greedy = Sampling(temperature=0.0, max_tokens=tokens, min_tokens=tokens)
    best = [math.inf] * len(models)
    for _ in range(TIMED_RUNS):
        for number, model in enumerate(models):
            started = time.perf_counter()
            generate(model, [prompt], greedy, num_slots=1)
            best[number] = min(best[number], time.perf_counter() - started)
    return [round(tokens / seconds, 1) for seconds in best]


def _from_data(model: LanguageModel, data: Path, max_tokens: int, seed: int) -> Probe:
    """Whole documents in seeded order until `max_tokens` are reached; a first one that is longer is taken whole."""
    texts = [document.text for path in heldout_files(data) for document in read_documents(path)]
    random.Random(seed).shuffle(texts)
    rows: list[list[int]] = []
    num_tokens = num_bytes = documents = 0
    for document in texts:
        if num_tokens < max_tokens:
            ids = [_start(model), *model.tokenizer.encode(document)]
            rows += [ids[at : at + model.max_length + 1] for at in range(0, len(ids) - 1, model.max_length)]
            num_tokens, num_bytes, documents = (
                num_tokens + len(ids) - 1,
                num_bytes + len(document.encode()),
                documents + 1,
            )
    return Probe(rows, num_bytes, documents)


def _from_model(model: LanguageModel, max_tokens: int, seed: int) -> Probe:
    length = min(SAMPLED_LENGTH, model.max_length - 1)
    count = max(1, min(SAMPLED_ROWS, max_tokens // length))
    draws = [Sampling(temperature=1.0, seed=seed * SAMPLED_ROWS + row, max_tokens=length) for row in range(count)]
    found = generate(model, [[_start(model)]] * count, draws, num_slots=count, label=text("sampling"))
    return Probe([[*sequence.prompt_ids, *sequence.tokens] for sequence in found], None, count)


def _start(model: LanguageModel) -> int:
    """The id before a text: the tokenizer's prefix, BOS, EOS; without a tokenizer the first end token, else 0."""
    try:
        tokenizer = model.tokenizer
    except IngotError as error:
        if error.code != "no-tokenizer":
            raise
        return min(model.eos_ids, default=0)
    return next(iter(tokenizer.start_ids), 0)
