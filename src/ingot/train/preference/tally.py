"""What a step of preferences came to, added up over micro-batches and processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ingot.train.distributed.world import World
from ingot.train.preference.losses import Side

SUMS = ("chosen", "chosen_reward", "chosen_count", "chosen_tokens", "chosen_change", "rejected", "rejected_reward",
        "rejected_count", "right", "judged")  # fmt: skip


class Tally:
    """Sums over answers. `right` of `judged`: pairs whose better answer has the higher reward (a tie is half of one);
    of labelled answers, good ones with a positive and bad ones with a negative reward."""

    def __init__(self, has_reference: bool) -> None:
        self.has_reference = has_reference
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, reward: Callable[[Side], Tensor], chosen: Side, rejected: Side, is_paired: bool) -> None:
        good_P, bad_P = reward(chosen), reward(rejected)
        margins_P = good_P - bad_P if is_paired else torch.cat([good_P, -bad_P])
        found = {
            "chosen": chosen.logprobs_P.sum(), "chosen_reward": good_P.sum(), "chosen_tokens": chosen.tokens_P.sum(),
            "chosen_count": torch.tensor(len(chosen)), "rejected": rejected.logprobs_P.sum(),
            "rejected_reward": bad_P.sum(), "rejected_count": torch.tensor(len(rejected)),
            "chosen_change": chosen.ratio.sum() if self.has_reference else torch.zeros(()),
            "right": (torch.sign(margins_P) + 1).sum() / 2, "judged": torch.tensor(len(margins_P)),
        }  # fmt: skip
        for name, value in found.items():
            self.sums[name] = self.sums.get(name, 0) + value.double().cpu()

    def numbers(self, world: World) -> dict[str, float]:
        """Means of the whole batch: log-probability of an answer of either side (nats), of the better ones also a token
        and against the reference; the margin of the rewards; the accuracy. What there is none of is left out."""
        values = world.sum(*(float(self.sums.get(name, 0.0)) for name in SUMS))
        total = dict(zip(SUMS, values, strict=True))
        ratios = {
            "chosen": ("chosen", "chosen_count"), "rejected": ("rejected", "rejected_count"),
            "chosen_per_token": ("chosen", "chosen_tokens"), "chosen_change": ("chosen_change", "chosen_tokens"),
            "accuracy": ("right", "judged"),
        }  # fmt: skip
        if not self.has_reference:
            del ratios["chosen_change"]
        found = {name: total[top] / total[bottom] for name, (top, bottom) in ratios.items() if total[bottom]}
        if total["chosen_count"] and total["rejected_count"]:
            good, bad = (total[f"{side}_reward"] / total[f"{side}_count"] for side in ("chosen", "rejected"))
            found["margin"] = good - bad
        return {name: float(f"{value:.6g}") for name, value in found.items()}
