"""Whether the better answers themselves became unlikely.

A loss of preferences asks that the better answer gain on the worse one, and both may fall (Pal et al. 2024, arXiv
2402.13228; Razin et al. 2024, arXiv 2410.08847): a model may then prefer rightly and write neither. So the better
answers' log-probability is watched, and a far fall is warned of when it happens and told in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from ingot.core.progress import warn
from ingot.train.metrics import read_metrics

RECENT = 8
"""Steps that are looked at together: single batches differ."""
FAR = 0.5
"""Nats a token. An answer of 20 tokens is then 22,000 times less likely than it was."""


def change(lines: Sequence[dict[str, Any]]) -> float | None:
    """How far the better answers' log-probability has moved, nats a token: against the reference, or where there is
    none against the first steps. None where too few steps say so."""
    against = [line["chosen_change"] for line in lines if "chosen_change" in line]
    plain = [line["chosen_per_token"] for line in lines if "chosen_per_token" in line]
    if len(plain) < RECENT:
        return None
    return fmean(against[-RECENT:]) if against else fmean(plain[-RECENT:]) - fmean(plain[:RECENT])


@dataclass
class FallWatch:
    """Warns once. `metrics`: the log so far, for a run that goes on."""

    metrics: Path
    lines: list[dict[str, Any]] = field(default_factory=list)
    is_told: bool = False

    def see(self, numbers: dict[str, Any]) -> None:
        if not self.lines:
            self.lines = read_metrics(self.metrics) if self.metrics.exists() else []
        self.lines.append(numbers)
        found = change(self.lines)
        if found is not None and found < -FAR and not self.is_told:
            self.is_told = True
            warn("prefer-fall", change=f"{found:+.2f}")
