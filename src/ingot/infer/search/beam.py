"""Beam search, and beam search in groups that differ (Vijayakumar et al. 2018, arXiv 1610.02424).

Several beginnings are kept: those with the highest sum of log-probabilities. An answer that ends while it is among the
best competes with all that ended before, by its sum over length^length_penalty. When to end, and how many continuations
are looked at, is as in transformers 5: `early_stopping` true ends with as many answers as beams; false when the best
beginning, scored as if it ended now, is no better than the worst answer; never, with a positive length_penalty, when it
would be no better at the longest length.

Diverse groups search side by side. A token costs a group `diversity_penalty` for each beam of the groups before it
that goes on with the same token at the same place; that cost stays in the sum. The answers of all groups are ranked
together.

Log-probabilities are taken before penalties, biases and bans, as in transformers. Ties go to the better beginning, then
to the lowest token; equal answers to the one that came first.

Legend: R beginnings, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ingot.infer.search.best import Answer, Ask, Found, Steps, best, controlled, go_on
from ingot.infer.search.branches import Branches
from ingot.infer.search.options import Search
from ingot.infer.sequence import Sequence


@dataclass
class Group:
    """`size` beams at most. texts: the best beginnings, and their sums; finished: the best answers, in order."""

    size: int
    texts: list[Sequence]
    scores: list[float]
    finished: list[Found] = field(default_factory=list)

    def step(self, logprobs_RV: Tensor, options: Search) -> None:
        """One token further. Without texts it has ended."""
        looked_at = max(2, 1 + len(self.texts[0].request().eos_ids)) * self.size
        sums_RV = logprobs_RV + torch.tensor(self.scores, device=logprobs_RV.device)[:, None]
        sums, places = best(sums_RV.flatten(), looked_at)
        vocab = logprobs_RV.shape[1]
        tried = [go_on(self.texts[place // vocab], place % vocab) for place in places]
        ranked = list(zip(tried, sums, strict=True))
        self._finish([(text, own) for text, own in ranked[: self.size] if text.finish_reason], options)
        going = [(text, own) for text, own in ranked if not text.finish_reason][: self.size]
        self.texts, self.scores = [text for text, _ in going], [own for _, own in going]
        if self.texts and not self._may_improve(options):
            self.texts, self.scores = [], []

    def _finish(self, ended: list[tuple[Sequence, float]], options: Search) -> None:
        new = [Found(text, _ranked(own, len(text.tokens), options)) for text, own in ended]
        self.finished = sorted(self.finished + new, key=lambda found: -(found.score or 0.0))[: self.size]

    def _may_improve(self, options: Search) -> bool:
        if len(self.finished) < self.size:
            return True
        if options.early_stopping == "true":
            return False
        length = len(self.texts[0].tokens)
        if options.early_stopping == "never" and options.length_penalty > 0:
            length += self.texts[0].room
        return _ranked(self.scores[0], length, options) > (self.finished[-1].score or 0.0)


def _ranked(score: float, length: int, options: Search) -> float:
    """In float32, as the sums are."""
    return float(torch.tensor(score) / length**options.length_penalty)


def beam(root: Sequence, options: Search, branches: Branches) -> Steps:
    """The best answers to a prompt that was begun."""
    return (yield from _search([Group(options.beams, [root], [0.0])], options, branches))


def diverse(root: Sequence, options: Search, branches: Branches) -> Steps:
    """The same, of groups that differ."""
    groups = [Group(options.beams // options.groups, [root], [0.0]) for _ in range(options.groups)]
    return (yield from _search(groups, options, branches))


def _search(groups: list[Group], options: Search, branches: Branches) -> Steps:
    while texts := list(dict.fromkeys(text for group in groups for text in group.texts)):
        answer: Answer = yield Ask(texts)
        logprobs_RV = answer.logits_RV.log_softmax(-1)
        taken: list[int] = []
        for group in [group for group in groups if group.texts]:
            own_RV = logprobs_RV[[texts.index(text) for text in group.texts]]
            own_RV = _apart(own_RV, taken, options.diversity_penalty)
            group.step(controlled(own_RV, group.texts), options)
            taken += [text.tokens[-1] for text in group.texts]
        branches.keep(texts, [text for group in groups for text in group.texts])
    found = [found for group in groups for found in group.finished]
    return sorted(found, key=lambda found: -(found.score or 0.0))


def _apart(logprobs_RV: Tensor, taken: list[int], penalty: float) -> Tensor:
    """Less for what the groups before took."""
    if not taken:
        return logprobs_RV
    counts_V = torch.bincount(torch.tensor(taken), minlength=logprobs_RV.shape[1]).to(logprobs_RV)
    return logprobs_RV - penalty * counts_V
