"""Each loss of preference tuning against its paper's formula written out pair by pair, gradients included."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ingot.core.errors import IngotError
from ingot.train.preference.losses import LOSSES, RATE_SHARES, REFERENCED, REWARDS, Side, defaults_of, kto, orpo
from ingot.train.preference.options import LossOptions, numbers_of
from ingot.train.preference.verb import PreferOptions

PAIRS = 6


def log_sigmoid(x: Tensor) -> Tensor:
    return torch.log(1 / (1 + torch.exp(-x)))


def dpo(c: Any, r: Any, beta: float = 0.3, label_smoothing: float = 0.2) -> Tensor:
    odds = beta * (torch.log(c.p / c.reference) - torch.log(r.p / r.reference))
    return -(1 - label_smoothing) * log_sigmoid(odds) - label_smoothing * log_sigmoid(-odds)


def ipo(c: Any, r: Any, beta: float = 0.3) -> Tensor:
    return (torch.log(c.p / c.reference) / c.n - torch.log(r.p / r.reference) / r.n - 1 / (2 * beta)) ** 2


def orpo_(c: Any, r: Any, beta: float = 0.3) -> Tensor:
    likely = [torch.exp(torch.log(side.p) / side.n) for side in (c, r)]
    odds = [p / (1 - p) for p in likely]
    return -torch.log(likely[0]) - beta * log_sigmoid(torch.log(odds[0] / odds[1]))


def simpo(c: Any, r: Any, beta: float = 1.5, gamma: float = 0.7) -> Tensor:
    return -log_sigmoid(beta / c.n * torch.log(c.p) - beta / r.n * torch.log(r.p) - gamma)


class One:
    """An answer: its probability, that under the reference, and its tokens."""

    def __init__(self, p: Tensor, reference: Tensor, n: int) -> None:
        self.p, self.reference, self.n = p, reference, n


def sides(seed: int = 0) -> tuple[Side, Side, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    leaves, made = [], []
    for _ in range(2):
        logprobs, reference = (-20 * torch.rand(PAIRS, generator=generator, dtype=torch.float64) for _ in range(2))
        tokens = torch.randint(1, 30, (PAIRS,), generator=generator)
        leaves.append(logprobs.requires_grad_())
        made.append(Side(logprobs, tokens, reference))
    return made[0], made[1], leaves


NAIVE: dict[str, tuple[Callable[..., Tensor], dict[str, float]]] = {
    "dpo": (dpo, {"beta": 0.3, "label_smoothing": 0.2}),
    "ipo": (ipo, {"beta": 0.3}),
    "orpo": (orpo_, {"beta": 0.3}),
    "simpo": (simpo, {"beta": 1.5, "gamma": 0.7}),
}


@pytest.mark.parametrize("name", NAIVE)
def test_value_and_gradient_are_the_papers(name: str) -> None:
    naive, numbers = NAIVE[name]
    chosen, rejected, leaves = sides()
    found = LOSSES[name](chosen, rejected, **numbers)  # type: ignore[index]
    expected = []
    for pair in range(PAIRS):
        ones = [One(torch.exp(side.logprobs_P[pair]), torch.exp(side.reference_P[pair]), int(side.tokens_P[pair]))
                for side in (chosen, rejected) if side.reference_P is not None]  # fmt: skip
        expected.append(naive(*ones, **numbers))
    assert torch.allclose(found, torch.stack(expected), rtol=0, atol=1e-9)
    for ours, theirs in zip(torch.autograd.grad(found.sum(), leaves),
                            torch.autograd.grad(torch.stack(expected).sum(), leaves), strict=True):  # fmt: skip
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-9)
        assert ours.abs().min() > 0


def test_kto_is_the_papers_value_function() -> None:
    """Equation 8: lambda - v, where v = lambda sigmoid(beta (r - z0)) of good answers, (z0 - r) of bad ones."""
    chosen, rejected, leaves = sides()
    rejected = Side(*(value[:4] for value in (rejected.logprobs_P, rejected.tokens_P, rejected.reference_P)))  # type: ignore[index]
    kl = torch.tensor(0.8, dtype=torch.float64)
    found = kto(chosen, rejected, kl=kl, beta=0.3, desirable=1.3, undesirable=0.6)
    expected = [1.3 - 1.3 / (1 + math.exp(-0.3 * (r - 0.8))) for r in chosen.ratio.tolist()]
    expected += [0.6 - 0.6 / (1 + math.exp(-0.3 * (0.8 - r))) for r in rejected.ratio.tolist()]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    good, bad = torch.autograd.grad(found.sum(), leaves)
    assert (good < 0).all()
    assert (bad[:4] > 0).all()
    assert (bad[4:] == 0).all()


def test_nothing_is_preferred_where_model_and_reference_are_one() -> None:
    chosen, rejected, _ = sides()
    same = [Side(side.logprobs_P, side.tokens_P, side.logprobs_P.detach()) for side in (chosen, rejected)]
    start = {"dpo": math.log(2), "ipo": 0.25, "kto": 0.5}
    for name in REFERENCED:
        more = {"kl": torch.zeros(())} if name == "kto" else {}
        assert LOSSES[name](*same, **more).tolist() == pytest.approx([start[name]] * (PAIRS * (1 + (name == "kto"))))  # type: ignore[index]


def test_odds_keep_their_digits_at_either_end() -> None:
    """Answers that are certain, and answers that are all but impossible."""
    tokens = torch.ones(2, dtype=torch.long)
    chosen = Side(torch.tensor([-1e-6, -200.0], requires_grad=True), tokens)
    found = orpo(chosen, Side(torch.tensor([-200.0, -1e-6]), tokens))
    assert found.tolist() == pytest.approx([1e-6, 200 + 0.1 * (200 - math.log(1e-6))], rel=1e-5)
    assert torch.isfinite(torch.autograd.grad(found.sum(), [chosen.logprobs_P])[0]).all()


def test_every_loss_has_all_its_parts() -> None:
    assert set(LOSSES) == set(REWARDS) == set(RATE_SHARES)
    for function in LOSSES.values():
        assert "arXiv" in (function.__doc__ or "")


def test_numbers_are_the_losses_own_unless_given() -> None:
    assert numbers_of("simpo", None, LossOptions(gamma=0.3)) == {"beta": 2.0, "gamma": 0.3}
    assert numbers_of("kto", 0.2, LossOptions()) == {"beta": 0.2, "desirable": 1.0, "undesirable": 1.0}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("number", list(LossOptions.model_fields))
def test_numbers_of_another_loss_are_refused(loss: str, number: str, tmp_path: Any) -> None:
    given = {"model": "m", "data": tmp_path, "out": tmp_path, "loss": loss, "losses": {number: 0.1}}
    if number in defaults_of(loss):  # type: ignore[arg-type]
        assert PreferOptions.of(**given).wish.parameters[number] == 0.1
        return
    with pytest.raises(IngotError, match=f"{number.replace('_', '-')} does not act with loss {loss}") as caught:
        PreferOptions.of(**given)
    assert caught.value.code == "options-conflict"
