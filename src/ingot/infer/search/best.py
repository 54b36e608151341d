"""What all searches share: what they ask for, what they find, and which of many numbers are the largest."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ingot.infer.controls import Controls
from ingot.infer.sampling import process
from ingot.infer.sequence import Sequence


@dataclass(frozen=True)
class Ask:
    """Texts that a search wants to be read; every: and the hidden states of all their tokens, not the last ones'."""

    texts: list[Sequence]
    every: bool = False


@dataclass(frozen=True)
class Answer:
    """hidden: of each text, (T, C); logits_RV: behind each text, float32."""

    hidden: list[Tensor]
    logits_RV: Tensor


@dataclass(frozen=True)
class Found:
    """An answer, and its score where the search ranks answers by one."""

    sequence: Sequence
    score: float | None


Steps = Generator[Ask, Answer, list[Found]]
"""A search of one prompt: asks, is answered, and in the end gives what it found, the best first."""


def controlled(scores_RV: Tensor, texts: list[Sequence]) -> Tensor:
    """Scores of the next token of each text, with penalties, biases, bans and forced tokens."""
    return process(scores_RV, Controls.of([text.request() for text in texts], scores_RV.device))


def best(values_N: Tensor, count: int) -> tuple[list[float], list[int]]:
    """The largest, in order, and where they stand; of equal ones the first. Never one that is -inf."""
    floor = values_N.topk(min(count, len(values_N))).values[-1]
    above_N = (values_N > floor).nonzero()[:, 0]
    equal_N = (values_N == floor).nonzero()[: count - len(above_N), 0]
    places_N = torch.cat([above_N, equal_N]).sort().values
    places_N = places_N[values_N[places_N] > -torch.inf]
    order_N = values_N[places_N].argsort(descending=True, stable=True)
    return values_N[places_N][order_N].tolist(), places_N[order_N].tolist()


def go_on(text: Sequence, token: int) -> Sequence:
    """The text that follows when `token` is taken."""
    other = text.fork()
    other.accept(token, None)
    return other
