"""The loss in parts equals the plain one, gradients included, for any head, and holds less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.train.cross_entropy import (
    SMALLEST_PART,
    PartLoss,
    compiled_loss,
    cross_entropy,
    plain_loss,
    token_logprobs,
)
from tiny import GPT2, LLAMA, make_decoder

COUNT = 3 * SMALLEST_PART + 17


class Capped(nn.Module):
    """A head with a bias and a soft cap."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 320)

    def forward(self, hidden: Tensor) -> Tensor:
        return 5.0 * torch.tanh(self.linear(hidden) / 5.0)


def make_heads() -> dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]]:
    torch.manual_seed(0)
    untied, tied, capped = make_decoder(LLAMA), make_decoder(GPT2), Capped()
    return {"untied": (untied, untied.head), "tied": (tied, tied.head), "capped": (capped, capped)}


def gradients(
    head: str, parted: bool, scale: float = 1.0, part_loss: PartLoss = plain_loss, count: int = COUNT
) -> tuple[float, dict[str, Tensor]]:
    model, function = make_heads()[head]
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(count, 32, generator=generator).requires_grad_()
    targets = torch.randint(0, 320, (count,), generator=generator)
    if parted:
        loss = cross_entropy(function, hidden, targets, part_loss, part_numbers=1)
    else:
        loss = F.cross_entropy(function(hidden), targets, reduction="sum")
    (loss * scale).backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), found | {"hidden": hidden.grad}


@pytest.mark.parametrize("head", ["untied", "tied", "capped"])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_loss_and_gradients_equal_the_plain_ones(head: str, scale: float) -> None:
    plain, expected = gradients(head, parted=False, scale=scale)
    parted, found = gradients(head, parted=True, scale=scale)
    assert parted == pytest.approx(plain, rel=1e-6)
    assert found.keys() == expected.keys()
    assert len(found) >= 2
    for name, tensor in found.items():
        assert (tensor - expected[name]).norm() <= 1e-6 * expected[name].norm(), name


@pytest.mark.slow
@pytest.mark.parametrize("head", ["untied", "capped"])
def test_compiled_parts_of_any_size_give_the_same(head: str) -> None:
    part_loss = compiled_loss()
    for count in (SMALLEST_PART // 2, COUNT, 2 * SMALLEST_PART + 5):
        plain, expected = gradients(head, parted=False, count=count)
        parted, found = gradients(head, parted=True, part_loss=part_loss, count=count)
        assert parted == pytest.approx(plain, rel=1e-6)
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            assert (tensor - expected[name]).norm() <= 1e-6 * expected[name].norm(), name


def test_gradients_go_through_what_came_before() -> None:
    first = nn.Linear(16, 32)
    model, head = make_heads()["untied"]
    model.requires_grad_(False)
    x, targets = torch.randn(COUNT, 16), torch.randint(0, 320, (COUNT,))
    cross_entropy(head, first(x), targets, part_numbers=1).backward()
    found = first.weight.grad.clone()
    first.zero_grad()
    F.cross_entropy(head(first(x)), targets, reduction="sum").backward()
    assert torch.allclose(found, first.weight.grad, atol=1e-4)
    assert model.head_weight.grad is None


def test_without_gradients_and_without_targets() -> None:
    _, head = make_heads()["capped"]
    hidden, targets = torch.randn(COUNT, 32), torch.randint(0, 320, (COUNT,))
    with torch.no_grad():
        loss = cross_entropy(head, hidden, targets, part_numbers=1)
        assert loss == pytest.approx(float(F.cross_entropy(head(hidden), targets, reduction="sum")), rel=1e-6)
    assert float(cross_entropy(head, hidden, targets[:0]).detach()) == 0.0


def test_no_tensor_is_as_large_as_the_logits() -> None:
    """Every tensor made on the way is counted as torch makes it."""
    model, head = make_heads()["untied"]
    hidden, targets = torch.randn(8 * SMALLEST_PART, 32).requires_grad_(), torch.zeros(8 * SMALLEST_PART).long()
    sizes: list[int] = []

    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = function(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in (made if isinstance(made, list | tuple) else [made]) if torch.is_tensor(x))
            return made

    with Count():
        cross_entropy(head, hidden, targets, part_numbers=1).backward()
    assert max(sizes) == SMALLEST_PART * 320
    assert model.head_weight.grad is not None


@pytest.mark.parametrize("head", ["untied", "tied", "capped"])
def test_each_tokens_logprob_and_gradient_equal_the_plain_ones(head: str) -> None:
    """Under a loss that is no sum over tokens, so that each token's gradient is weighed by what comes after."""
    found = []
    for parted in (True, False):
        model, function = make_heads()[head]
        generator = torch.Generator().manual_seed(1)
        hidden = torch.randn(COUNT, 32, generator=generator).requires_grad_()
        targets = torch.randint(0, 320, (COUNT,), generator=generator)
        plain = torch.log_softmax(function(hidden), -1).gather(1, targets[:, None])[:, 0]
        logprobs = token_logprobs(function, hidden, targets, part_numbers=1) if parted else plain
        (logprobs[: COUNT // 2].sum() / 50).sigmoid().mul(logprobs[COUNT // 2 :].sum()).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append({"logprobs": logprobs.detach(), "hidden": hidden.grad, **gradients})
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        assert (tensor - found[1][name]).norm() <= 2e-6 * found[1][name].norm(), name


def test_logprobs_hold_the_logits_of_one_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    _, function = make_heads()["untied"]
    sizes = []

    def head(hidden: Tensor) -> Tensor:
        sizes.append(len(hidden))
        return function(hidden)

    hidden = torch.randn(COUNT, 32).requires_grad_()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        loss = token_logprobs(head, hidden, torch.zeros(COUNT, dtype=torch.long), part_numbers=1).sum()
    assert max(kept, default=0) < SMALLEST_PART * 320
    loss.backward()
    assert max(sizes) == SMALLEST_PART
    assert sum(sizes) == 1 + 2 * COUNT
