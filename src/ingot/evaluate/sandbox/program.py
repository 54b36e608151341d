"""What is run, within which limits, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal[
    "passed", "wrong", "error", "timeout", "blocked", "memory", "output-limit", "no-entry-point", "syntax-error",
]  # fmt: skip
VERDICTS: tuple[Verdict, ...] = (
    "passed", "wrong", "error", "timeout", "blocked", "memory", "output-limit", "no-entry-point", "syntax-error",
)  # fmt: skip

SHORTEST_LIMIT, LIMIT_FACTOR = 4.0, 10.0
"""Seconds on the processor: the most of this and so many times what the reference solution takes."""


@dataclass(frozen=True)
class Program:
    """`source` is the model's and runs as a candidate; the tests run elsewhere, after `trusted` (a prompt's helpers)
    was run there. `entries` are the names that tests take from the program; `cpu` its seconds on the processor."""

    source: str
    tests: str
    entries: tuple[str, ...] = ()
    trusted: str = ""
    cpu: float = SHORTEST_LIMIT


@dataclass(frozen=True)
class Limits:
    """Bytes of memory, of what is printed, of one file; threads."""

    memory: int = 2 << 30
    output: int = 1 << 20
    file: int = 16 << 20
    threads: int = 32

    def of(self, program: Program) -> dict[str, Any]:
        return asdict(self) | {"cpu": program.cpu}


@dataclass(frozen=True)
class Outcome:
    """`cause` says why it did not pass; `output` is the beginning of what it printed, `printed` all of it in bytes."""

    verdict: Verdict
    cause: str
    cpu: float
    wall: float
    output: str
    printed: int

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"


def limit_for(reference_cpu: float) -> float:
    """Seconds that a program gets whose reference solution took so many."""
    return max(SHORTEST_LIMIT, LIMIT_FACTOR * reference_cpu)
