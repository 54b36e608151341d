"""Cross-entropy that never holds the logits of more than a part of the batch.

Logits are tokens x vocabulary: for 4,096 tokens and 8,192 entries 128 MiB, and a plain loss holds them three times (as
logits, as log-probabilities, as gradient). Here each part's logits are turned into the gradient at once, in the forward
pass, and what is kept is the gradient of the hidden states and of the head's weights, neither of which grows with the
vocabulary times the batch (the idea of Liger's fused loss, Hsu et al. 2024, and of Cut Cross-Entropy, Wijmans et al.
2024, arXiv 2411.09009). The head is called as it is, whatever it does (bias, soft cap), so this is right for any head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]
"""Hidden states (N, C) to logits (N, V)."""

PartLoss = Callable[[Head, Tensor, Tensor], Tensor]
"""Sum of -log p(target) of a part, from its head, hidden states (N, C) and targets (N,)."""

PART_NUMBERS = {"cpu": 1 << 24, "cuda": 1 << 27}
"""Logits held at a time, by device: 64 MiB in float32 on CPU; a card is only busy with larger products."""

SMALLEST_PART = 128
"""Tokens in a part at least: each part adds to the gradient of the whole head once."""


def plain_loss(head: Head, hidden_NC: Tensor, targets_N: Tensor) -> Tensor:
    """The loss of a part as it is written in books."""
    return F.cross_entropy(head(hidden_NC).float(), targets_N, reduction="sum")


def compiled_loss() -> PartLoss:
    """The same compiled: logits stay in the dtype of the products, and one pass over them gives the loss, another the
    gradient. Parts have many sizes, and one compilation serves them all."""
    compiled = torch.compile(plain_loss)

    def loss(head: Head, hidden_NC: Tensor, targets_N: Tensor) -> Tensor:
        torch._dynamo.maybe_mark_dynamic(hidden_NC, 0)
        torch._dynamo.maybe_mark_dynamic(targets_N, 0)
        return compiled(head, hidden_NC, targets_N)

    return loss


def cross_entropy(
    head: Head,
    hidden_NC: Tensor,
    targets_N: Tensor,
    part_loss: PartLoss = plain_loss,
    part_numbers: int | None = None,
) -> Tensor:
    """Sum of -log softmax(head(hidden))[target], nats, float32 scalar.

    `part_numbers`: logits at a time, by default what suits the device.
    """
    if len(targets_N) == 0:
        return hidden_NC.sum() * 0.0
    with torch.enable_grad():
        probe = head(hidden_NC[:1].detach())
    size = _part_size(probe, part_numbers)
    if len(targets_N) <= size:
        return part_loss(head, hidden_NC, targets_N)
    if not torch.is_grad_enabled():
        parts = zip(hidden_NC.split(size), targets_N.split(size), strict=True)
        return torch.stack([part_loss(head, *part) for part in parts]).sum()
    return _Parted.apply(head, part_loss, size, targets_N, hidden_NC, *_leaves(probe))


def _part_size(logits: Tensor, part_numbers: int | None) -> int:
    """Tokens in a part."""
    return max(SMALLEST_PART, (part_numbers or PART_NUMBERS[logits.device.type]) // logits.shape[-1])


def token_logprobs(head: Head, hidden_NC: Tensor, targets_N: Tensor, part_numbers: int | None = None) -> Tensor:
    """log softmax(head(hidden))[target] of each token, (N,) float32, for losses that are no sum over tokens.

    What weighs each token's gradient is known only after the last, so the logits of a part are computed again on the
    way back instead of being kept: one more product with the head, and never more than a part's logits.
    """
    with torch.no_grad():
        size = _part_size(head(hidden_NC[:1]), part_numbers)
    parts = zip(hidden_NC.split(size), targets_N.split(size), strict=True)
    if len(targets_N) <= size or not torch.is_grad_enabled():
        return torch.cat([_logprobs(head, *part) for part in parts])
    again = partial(checkpoint, _logprobs, head, use_reentrant=False, preserve_rng_state=False)
    return torch.cat([again(*part) for part in parts])


def _logprobs(head: Head, hidden_NC: Tensor, targets_N: Tensor) -> Tensor:
    return -F.cross_entropy(head(hidden_NC).float(), targets_N, reduction="none")


def _leaves(output: Tensor) -> list[Tensor]:
    """The parameters that a tensor was computed from and that train."""
    found: dict[int, Tensor] = {}
    open_nodes, seen = [output.grad_fn], set()
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        open_nodes += [following for following, _ in node.next_functions]
    return list(found.values())


class _Parted(torch.autograd.Function):
    """Loss and gradients, part by part. `leaves` are the head's parameters; they are arguments to receive gradients."""

    @staticmethod
    def forward(
        ctx: Any, head: Head, part_loss: PartLoss, size: int, targets_N: Tensor, hidden_NC: Tensor, *leaves: Tensor
    ) -> Tensor:
        gradients_of = _by_hand if part_loss is plain_loss else partial(_by_autograd, part_loss)
        total = torch.zeros((), device=hidden_NC.device)
        d_hidden_NC = torch.empty_like(hidden_NC)
        d_leaves = [torch.zeros_like(leaf) for leaf in leaves]
        begin = 0
        for part_NC, part_targets_N in zip(hidden_NC.split(size), targets_N.split(size), strict=True):
            loss, (d_part_NC, *d_part_leaves) = gradients_of(head, part_NC, part_targets_N, leaves)
            total += loss
            d_hidden_NC[begin : begin + len(part_NC)] = d_part_NC
            begin += len(part_NC)
            if leaves:
                torch._foreach_add_(d_leaves, d_part_leaves)
            del d_part_leaves
        ctx.gradients = [d_hidden_NC, *d_leaves]
        return total

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        torch._foreach_mul_(gradients, d_loss)
        return (None, None, None, None, *gradients)


Gradients = tuple[Tensor, list[Tensor]]
"""Loss of one part, and its gradients with respect to the hidden states and the leaves."""


def _by_autograd(
    part_loss: PartLoss, head: Head, hidden_NC: Tensor, targets_N: Tensor, leaves: tuple[Tensor, ...]
) -> Gradients:
    with torch.enable_grad():
        own_NC = hidden_NC.detach().requires_grad_()
        loss = part_loss(head, own_NC, targets_N)
    return loss.detach(), list(torch.autograd.grad(loss, [own_NC, *leaves]))


def _by_hand(head: Head, hidden_NC: Tensor, targets_N: Tensor, leaves: tuple[Tensor, ...]) -> Gradients:
    """Without a compiler autograd would hold the logits three times; here they become their gradient in place."""
    with torch.enable_grad():
        own_NC = hidden_NC.detach().requires_grad_()
        logits_NV = head(own_NC)
    logprobs_NV = F.log_softmax(logits_NV.detach().float(), dim=-1)
    places_N1 = targets_N[:, None]
    loss = -logprobs_NV.gather(1, places_N1).sum()
    d_logits_NV = logprobs_NV.exp_()
    d_logits_NV.scatter_add_(1, places_N1, torch.full_like(places_N1, -1.0, dtype=d_logits_NV.dtype))
    return loss, list(torch.autograd.grad(logits_NV, [own_NC, *leaves], d_logits_NV.to(logits_NV.dtype)))
