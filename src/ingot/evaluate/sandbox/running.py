"""From what was written to what came of it: references first, which set the time limits, then every program.

Rows hold all that scoring reads: each completion, its verdict, and how well it was kept in while it ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from ingot.core.language import text
from ingot.core.progress import progress, say, warn
from ingot.evaluate.sandbox.ladder import Protection
from ingot.evaluate.sandbox.options import SandboxOptions
from ingot.evaluate.sandbox.pool import Pool
from ingot.evaluate.sandbox.problems import Problem
from ingot.evaluate.sandbox.program import Limits, Outcome, Program, limit_for
from ingot.evaluate.task import Row


def open_pool(options: SandboxOptions) -> Pool:
    """Workers as the options have them. Raises what `Pool` raises."""
    return Pool(options.workers, Limits(memory=int(options.memory * (1 << 30))), options.unprotected)


def tell_protection(protection: Protection) -> None:
    """The rung, and what is missing of the rungs above."""
    missing = [f"{name} ({reason})" for name, reason in protection.missing.items()]
    tell = say if protection.level == "full" else warn
    tell(
        f"sandbox-level-{protection.level}",
        standing=", ".join(protection.standing) or "-",
        missing=", ".join(missing) or text("sandbox-nothing"),
    )


def calibrated(pool: Pool, problems: Sequence[Problem]) -> list[Problem]:
    """Each problem with the limit that its reference solution's time here makes, and that solution's own verdict: one
    that fails says that the tests, or this machine, are at fault."""
    tell_protection(pool.protection)
    outcomes = _run(pool, [replace(p.program(p.reference), cpu=60.0) for p in problems])
    found = [
        replace(problem, cpu=limit_for(outcome.cpu), reference_verdict=outcome.verdict)
        for problem, outcome in zip(problems, outcomes, strict=True)
    ]
    failing = [problem for problem in found if problem.reference_verdict != "passed"]
    if failing:
        shown = ", ".join(f"{problem.id} ({problem.reference_verdict})" for problem in failing[:5])
        warn("sandbox-reference-fails", count=len(failing), total=len(found), shown=shown)
    return found


def _run(pool: Pool, programs: Sequence[Program]) -> list[Outcome]:
    outcomes = []
    with progress(text("sandbox-running"), len(programs)) as advance:
        for outcome in pool.run(programs):
            outcomes.append(outcome)
            advance(len(outcomes))
    return outcomes


def rows_of(pool: Pool, problems: Sequence[Problem], written: Sequence[Sequence[Row]]) -> list[Row]:
    """One row a problem. `written`: for each, what was written: `completion`, or `solution` for a whole program."""
    programs = [
        replace(problem.program(""), source=one["solution"])
        if "solution" in one
        else problem.program(one["completion"])
        for problem, found in zip(problems, written, strict=True)
        for one in found
    ]
    outcomes = iter(_run(pool, programs))
    kept = {"level": pool.protection.level, "standing": pool.protection.standing, "missing": pool.protection.missing}
    return [
        {
            "id": problem.id,
            "asked": problem.asked,
            "tests": problem.tests_digest,
            "limit": problem.cpu,
            "reference": problem.reference_verdict,
            "protection": kept,
            "samples": [{**one, **_plain(next(outcomes))} for one in found],
        }
        for problem, found in zip(problems, written, strict=True)
    ]


def _plain(outcome: Outcome) -> Row:
    return asdict(outcome) | {"cause": _valid(outcome.cause), "output": _valid(outcome.output)}


def _valid(words: str) -> str:
    """Lone surrogates, which no file can hold, as question marks."""
    return words.encode("utf-8", "replace").decode()
