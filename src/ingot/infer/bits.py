"""Bits per byte: how many bits a model needs for a byte of text. Comparable between any two models."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ingot.adapt.load import LanguageModel
from ingot.infer.likelihood import batch_logprobs, sliding_window


def bits_per_byte(model: LanguageModel, texts: Sequence[str], label: str | None = None) -> float:
    """-log2 p of the texts, each on its own, over their UTF-8 bytes.

    The one figure, quickly; `ingot.evaluate` gives it with intervals.
    """
    return sum(text_bits(model, texts, label)) / sum(len(text.encode()) for text in texts)


def text_bits(model: LanguageModel, texts: Sequence[str], label: str | None = None) -> list[float]:
    """-log2 p of each text behind the tokenizer's start; those longer than the window go through windows."""
    tokenizer = model.tokenizer
    rows = [[*tokenizer.start_ids, *ids] for ids in tokenizer.encode_batch(texts)]
    short = [number for number, row in enumerate(rows) if len(row) <= model.max_length]
    found = batch_logprobs(model, [rows[number] for number in short], label) if short else []
    logprobs = dict(zip(short, found, strict=True))
    for number, row in enumerate(rows):
        if number not in logprobs:
            logprobs[number] = sliding_window(model, row, label=label)
    return [-float(logprobs[number].double().sum()) / math.log(2) for number in range(len(rows))]
