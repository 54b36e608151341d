"""One token from processed logits: the inverse of the cumulative distribution at one uniform number.

Legend: B rows (requests), V vocabulary, K blocks of BLOCK columns, D columns of one block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ingot.infer.options import Sampling
from ingot.infer.sampling.mass import BLOCK, Mass, blocks


def draw(logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """The token at which the cumulative distribution, in the order of ids, passes each uniform number, (B,): first the
    block, then the token in it. Never one with -inf."""
    shares_BV = (logits_BV - logits_BV.amax(-1, keepdim=True)).exp_()
    block_B1, part_B1 = _passed(blocks(shares_BV), uniform_B[:, None])
    columns_BD = block_B1 * BLOCK + torch.arange(BLOCK, device=logits_BV.device)
    inside_BD = columns_BD < logits_BV.shape[-1]
    block_BD = shares_BV.gather(-1, columns_BD.clamp(max=logits_BV.shape[-1] - 1)).where(inside_BD, 0)
    column_B1, _ = _passed(block_BD.double().cumsum(-1), part_B1)
    return (block_B1 * BLOCK + column_B1)[:, 0]


def _passed(running_BK: Tensor, share_B1: Tensor) -> tuple[Tensor, Tensor]:
    """Where running sums pass a share of their total, (B, 1), and how far into that step, from 0 to 1, it lies."""
    total_B1 = running_BK[:, -1:]
    wanted_B1 = torch.minimum(share_B1 * total_B1, total_B1.nextafter(torch.zeros_like(total_B1)))
    place_B1 = torch.searchsorted(running_BK, wanted_B1, right=True).clamp(max=running_BK.shape[-1] - 1)
    end_B1 = running_BK.gather(-1, place_B1)
    begin_B1 = running_BK.gather(-1, (place_B1 - 1).clamp(min=0)).where(place_B1 > 0, 0)
    return place_B1, (wanted_B1 - begin_B1) / (end_B1 - begin_B1)


def surprise(processed_V: Tensor, token: int, sampling: Sampling) -> float | None:
    """How many bits a token of this distribution tells, where Mirostat steers by it."""
    if not sampling.mirostat or token < 0:
        return None
    mass = Mass(processed_V[None])
    return (math.log(float(mass.total_R1)) - float(mass.below_RV[0, token])) / math.log(2)
