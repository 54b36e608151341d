"""Held-out preferences before and after: which answers the model prefers, by how much, and how likely they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ingot.core.progress import say
from ingot.train.distributed.world import World
from ingot.train.preference.criterion import Wish, sides
from ingot.train.preference.score import Floats
from ingot.train.preference.sheet import CHOSEN, Sheet
from ingot.train.preference.tally import Tally

ALONE = World()


def standing(wish: Wish, sheet: Sheet, logprobs_NS: Floats, before_NS: Floats) -> dict[str, float]:
    """The numbers of `Tally` for all rows of a sheet; the reference is what the model thought before."""
    rows = np.arange(len(sheet.rows))
    pair = sides(sheet, rows, torch.from_numpy(logprobs_NS), before_NS)
    tally = Tally(has_reference=True, is_paired=wish.is_paired)
    tally.add(wish.reward, *pair)
    return tally.numbers(ALONE)


def compare(wish: Wish, sheet: Sheet, before_NS: Floats, after_NS: Floats) -> dict[str, Any]:
    """Numbers of the hallmark, and said: accuracy and margin of the rewards and the log-probabilities of both sides,
    before and after. Before, rewards against a reference are all 0, which is a margin of 0 and an accuracy of one
    half."""
    before = standing(wish, sheet, before_NS, before_NS)
    after = standing(wish, sheet, after_NS, before_NS)
    numbers: dict[str, Any] = {"heldout_answers": int((np.asarray(sheet.sides_NS) >= 0).sum()),
                               "heldout_chosen": int((np.asarray(sheet.sides_NS) == CHOSEN).sum())}  # fmt: skip
    for name in ("accuracy", "margin", "chosen", "rejected"):
        numbers |= {f"heldout_{name}_before": before.get(name), f"heldout_{name}_after": after.get(name)}
    numbers["heldout_chosen_change"] = after.get("chosen_change")
    say("prefer-heldout", answers=f"{numbers['heldout_answers']:,}",
        **{f"{name}_{when}": _shown(numbers[f"heldout_{name}_{when}"], "%" if name == "accuracy" else "")
           for name in ("accuracy", "margin", "chosen", "rejected") for when in ("before", "after")})  # fmt: skip
    return numbers


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if unit else f"{value:.3f}"
