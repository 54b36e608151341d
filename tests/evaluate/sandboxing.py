"""What tests of the sandbox share: one short way to run a program, and a pool for a whole module."""

from __future__ import annotations

import sys

import pytest

from ingot.evaluate.sandbox.pool import Pool
from ingot.evaluate.sandbox.program import Outcome, Program

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="programs are kept in on Linux only")


def run(
    pool: Pool, source: str, tests: str = "assert found() is None", entry: str = "found", cpu: float = 4.0
) -> Outcome:
    """What comes of a program whose function is called by the tests."""
    (outcome,) = pool.run([Program(source, tests, (entry,) if entry else (), "", cpu)])
    return outcome


def indented(body: str) -> str:
    """A body as that of the function `found`."""
    return "def found():\n" + "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
