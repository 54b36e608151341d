"""The best of several answers: the ones whose tokens the model thinks most likely, by the mean over their tokens.

The mean is OpenAI's definition of best_of ("the highest log probability per token"); a sum would prefer short answers.
Log-probabilities are those that the request asks for: the model's own, or those of the distribution drawn from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from ingot.infer.options import Sampling
from ingot.infer.sequence import Sequence as Answer
from ingot.infer.sequence import TokenLogprobs

A = TypeVar("A")


def several(own: Sampling, number: int, best_of: int) -> list[Sampling]:
    """The controls of each of the answers to one prompt, each with its own seed. They report log-probabilities where
    the best have to be chosen: fewer are wanted (`number`) than are made (`best_of`)."""
    if best_of > number and own.logprobs is None:
        own = own.model_copy(update={"logprobs": 0})
    return [own.numbered(n) for n in range(best_of)]


def best(answers: Sequence[A], logprobs: Iterable[Sequence[TokenLogprobs] | None], number: int) -> list[A]:
    """The `number` best, best first; of equally good ones the first. As many as there are stay in their order."""
    if number >= len(answers):
        return list(answers)
    scores = [mean(found or ()) for found in logprobs]
    order = sorted(range(len(answers)), key=lambda place: (-scores[place], place))
    return [answers[place] for place in order[:number]]


def best_sequences(answers: Sequence[Answer], number: int) -> list[Answer]:
    """`best` of the engine's sequences."""
    return best(answers, [answer.logprobs for answer in answers], number)


def mean(logprobs: Sequence[TokenLogprobs]) -> float:
    """Mean log-probability of an answer's tokens, an end token among them; an answer without any is the worst."""
    return sum(token.logprob for token in logprobs) / len(logprobs) if logprobs else float("-inf")
