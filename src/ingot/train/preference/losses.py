"""The losses of preference tuning. Each is a plain function of the better answers and the worse ones; its keyword
arguments are its parameters, and their defaults those of the verb.

A loss gives one number a pair (KTO: one an answer); the loop takes their mean. Adding one is a function here, its line
in LOSSES, what it calls a reward in REWARDS, and its share of the learning rate in RATE_SHARES.

Letters: P pairs, or answers of one side.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossName = Literal["dpo", "ipo", "kto", "orpo", "simpo"]


@dataclass(frozen=True)
class Side:
    """Answers of one side: log-probability of each under the model (nats, over all its tokens), its tokens, and its
    log-probability under the reference, where the loss asks for one."""

    logprobs_P: Tensor
    tokens_P: Tensor
    reference_P: Tensor | None = None

    def __len__(self) -> int:
        return len(self.logprobs_P)

    @property
    def ratio(self) -> Tensor:
        """How much likelier an answer is than under the reference, nats."""
        assert self.reference_P is not None, "this loss asks for a reference"
        return self.logprobs_P - self.reference_P

    @property
    def mean_ratio(self) -> Tensor:
        """The same a token."""
        return self.ratio / self.tokens_P

    @property
    def mean(self) -> Tensor:
        """Log-probability a token."""
        return self.logprobs_P / self.tokens_P


def dpo(chosen: Side, rejected: Side, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Tensor:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290): the log-odds that the better answer is
    preferred are beta times the difference of the two ratios to the reference. `label_smoothing`: share of pairs
    thought to be labelled the wrong way round (conservative DPO, Mitchell 2023)."""
    logits_P = beta * (chosen.ratio - rejected.ratio)
    return -(1 - label_smoothing) * F.logsigmoid(logits_P) - label_smoothing * F.logsigmoid(-logits_P)


def ipo(chosen: Side, rejected: Side, *, beta: float = 1.0) -> Tensor:
    """Identity preference optimisation (Azar et al. 2023, arXiv 2310.12036, equation 17): the difference of the ratios
    is drawn to 1 / (2 beta) and not beyond. Ratios are a token, as the authors computed them (TRL does so on their
    word), so beta means the same for long answers as for short ones."""
    return (chosen.mean_ratio - rejected.mean_ratio - 1 / (2 * beta)).square()


def kto(
    chosen: Side, rejected: Side, *, kl: Tensor, beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0
) -> Tensor:
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306): each answer by itself is worth how far
    its ratio is from the point `kl`, which is the batch's estimate of how far the model has come from the reference.
    The sides need not be equally many; `desirable` and `undesirable` weigh them."""
    good_P = desirable * (1 - torch.sigmoid(beta * (chosen.ratio - kl)))
    bad_P = undesirable * (1 - torch.sigmoid(beta * (kl - rejected.ratio)))
    return torch.cat([good_P, bad_P])


def orpo(chosen: Side, rejected: Side, *, beta: float = 0.1) -> Tensor:
    """Odds ratio preference optimisation (Hong et al. 2024, arXiv 2403.07691): the better answer is learnt as in tuning
    (nats a token), and beside it, weighted by beta (the paper's lambda), that its odds are above the worse one's. The
    paper's loss is of the answer; TRL's first term is of the prompt too."""
    log_odds_P = (chosen.mean - rejected.mean) - (_log_rest(chosen.mean) - _log_rest(rejected.mean))
    return -chosen.mean - beta * F.logsigmoid(log_odds_P)


def simpo(chosen: Side, rejected: Side, *, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """Simple preference optimisation (Meng et al. 2024, arXiv 2405.14734): the reward is beta times the log-probability
    a token, without a reference, and is to differ by `gamma` at least."""
    return -F.logsigmoid(beta * (chosen.mean - rejected.mean) - gamma)


LOSSES: dict[LossName, Callable[..., Tensor]] = {"dpo": dpo, "ipo": ipo, "kto": kto, "orpo": orpo, "simpo": simpo}

REWARDS: dict[LossName, Callable[[Side], Tensor]] = {
    "dpo": lambda side: side.ratio,
    "ipo": lambda side: side.mean_ratio,
    "kto": lambda side: side.ratio,
    "orpo": lambda side: side.mean,
    "simpo": lambda side: side.mean,
}
"""What times beta is an answer's reward: margins and accuracies are of these."""

REFERENCED = ("dpo", "ipo", "kto")
"""Losses that compare the model with the one it was."""

RATE_SHARES: dict[LossName, float] = {"dpo": 0.1, "ipo": 0.1, "kto": 0.1, "orpo": 0.3, "simpo": 0.1}
"""Learning rate by loss, as a share of that of tuning by the same method: a preference is learnt in far fewer steps
than a text, and at the rate of tuning the answers themselves are unlearnt (LOG.md)."""


def defaults_of(name: LossName) -> dict[str, float]:
    """The parameters that a loss takes, with their defaults."""
    parameters = inspect.signature(LOSSES[name]).parameters.values()
    return {one.name: one.default for one in parameters if isinstance(one.default, float)}


def _log_rest(logprob_P: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0 without loss of digits near either end (Maechler 2012)."""
    x_P = logprob_P.clamp(max=-1e-7)
    near_P = torch.log(-torch.expm1(x_P))
    return torch.where(x_P > -math.log(2), near_P, torch.log1p(-torch.exp(x_P)))
