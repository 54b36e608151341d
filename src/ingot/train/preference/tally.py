"""What a step of preferences came to, added up over micro-batches and processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ingot.train.distributed.world import World
from ingot.train.preference.losses import Side

SUMS = ("chosen", "chosen_reward", "chosen_count", "chosen_tokens", "chosen_change", "rejected", "rejected_reward",
        "rejected_count", "right")  # fmt: skip


class Tally:
    """Sums over answers, and of labelled answers their rewards. `right`: pairs whose better answer has the higher
    reward, a tie being half of one."""

    def __init__(self, has_reference: bool, is_paired: bool) -> None:
        self.has_reference, self.is_paired = has_reference, is_paired
        self.sums: dict[str, Tensor] = {}
        self.rewards: tuple[list[Tensor], list[Tensor]] = ([], [])

    @torch.no_grad()
    def add(self, reward: Callable[[Side], Tensor], chosen: Side, rejected: Side) -> None:
        good_P, bad_P = reward(chosen), reward(rejected)
        found = {
            "chosen": chosen.logprobs_P.sum(), "chosen_reward": good_P.sum(), "chosen_tokens": chosen.tokens_P.sum(),
            "chosen_count": torch.tensor(len(chosen)), "rejected": rejected.logprobs_P.sum(),
            "rejected_reward": bad_P.sum(), "rejected_count": torch.tensor(len(rejected)),
        }  # fmt: skip
        if self.has_reference:
            found["chosen_change"] = chosen.ratio.sum()
        if self.is_paired:
            found["right"] = (torch.sign(good_P - bad_P) + 1).sum() / 2
        else:
            for kept, new_P in zip(self.rewards, (good_P, bad_P), strict=True):
                kept.append(new_P)
        for name, value in found.items():
            self.sums[name] = self.sums.get(name, 0) + value.double()

    def numbers(self, world: World) -> dict[str, float]:
        """Means of the whole batch: log-probability of an answer of either side (nats), of the better ones also a token
        and against the reference; the margin of the rewards; the accuracy. What there is none of is left out.

        The accuracy of labelled answers is that of all pairs of a good and a bad one: it asks for no threshold.
        """
        values = world.sum(*(float(self.sums.get(name, 0.0)) for name in SUMS))
        total = dict(zip(SUMS, values, strict=True))
        ratios = {
            "chosen": ("chosen", "chosen_count"), "rejected": ("rejected", "rejected_count"),
            "chosen_per_token": ("chosen", "chosen_tokens"),
        }  # fmt: skip
        if self.has_reference:
            ratios["chosen_change"] = ("chosen_change", "chosen_tokens")
        if self.is_paired:
            ratios["accuracy"] = ("right", "chosen_count")
        found = {name: total[top] / total[bottom] for name, (top, bottom) in ratios.items() if total[bottom]}
        every = world.gather([[value for part in side for value in part.tolist()] for side in self.rewards])
        if total["chosen_count"] and total["rejected_count"]:
            good, bad = (total[f"{side}_reward"] / total[f"{side}_count"] for side in ("chosen", "rejected"))
            found["margin"] = good - bad
            if not self.is_paired:
                found["accuracy"] = ranked(*([value for one in every for value in one[side]] for side in (0, 1)))
        return {name: float(f"{value:.6g}") for name, value in found.items()}


def ranked(good: Sequence[float], bad: Sequence[float]) -> float:
    """Share of the pairs of a good and a bad answer in which the good one has the higher reward (Mann and Whitney
    1947)."""
    below = np.sort(np.asarray(bad))
    wins = np.searchsorted(below, good, "left") + np.searchsorted(below, good, "right")
    return float(wins.mean() / (2 * len(below)))
