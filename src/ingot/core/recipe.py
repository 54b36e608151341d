"""The verb `run`: a whole life from one YAML file, skipping what has not changed and going on where it was stopped.

The plan is checked in full first (recipe_plan), then each step runs in this process, is remembered (recipe_state) and
must pass its gates. At the end, and when a gate fails, OUT/report.html shows the life (recipe_report). A training
step that was stopped is resumed when its key still agrees.
"""

from __future__ import annotations

import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.core import recipe_state as memory
from ingot.core.files import refuse_nonempty
from ingot.core.format import label, show, unit_of
from ingot.core.gate import GateResult, flatten, parse
from ingot.core.hallmark import now
from ingot.core.language import language
from ingot.core.options import Options, argument, option, required, verb
from ingot.core.progress import say, warn
from ingot.core.recipe_plan import Changes, FindVerb, Plan, PlannedStep, plan
from ingot.core.recipe_state import StepState
from ingot.core.report import Language, Report, Unit, plain_number
from ingot.core.verbs import find_verb

NUM_SHOWN = 4
"""Numbers of a step shown in one line."""


class RunOptions(Options):
    """Options of `run`."""

    recipe: Path = argument("the recipe, a YAML file")
    out: Path = required("directory for all that the steps make; run again, unchanged steps are skipped")
    set: list[str] = option([], "change an input of the recipe: NAME=VALUE (may be given several times)")


@dataclass(frozen=True)
class StepResult:
    """A step after its turn: what is known of it, whether it ran now, and its gates."""

    step: PlannedStep
    state: StepState
    ran: bool
    gates: list[GateResult]

    @property
    def passed(self) -> bool:
        return all(gate.holds for gate in self.gates)

    def numbers(self) -> dict[str, Any]:
        """Its most telling numbers: those of its gates first, then those it names first."""
        numbers = flatten(self.state.summary).items()
        found = {name: value for name, value in numbers if name != "seed" and plain_number(value) is not None}
        names = [gate.gate.name for gate in self.gates if gate.gate.name in found]
        return {name: found[name] for name in list(dict.fromkeys([*names, *found]))[:NUM_SHOWN]}

    def unit(self, name: str) -> Unit:
        """The unit of one of its numbers."""
        units = self.state.report.units if self.state.report else {}
        return units.get(name) or unit_of(name)

    def line(self) -> str:
        """Its most telling numbers in one line."""
        spoken = _spoken()
        numbers = self.numbers().items()
        return ", ".join(f"{label(name, spoken)} {show(value, self.unit(name), spoken)}" for name, value in numbers)


@dataclass(frozen=True)
class RunOutcome:
    """What `run` returns."""

    report: Report
    results: list[StepResult]

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.results)

    def summary(self) -> dict[str, Any]:
        steps = {
            one.step.name: {**one.state.summary, "state": "run" if one.ran else "skipped", "seconds": one.state.seconds}
            for one in self.results
        }
        place = self.report.summary()
        return {"path": place["path"], "report": place["report"], "steps": steps, "passed": self.passed}


def run_recipe(
    options: RunOptions, find: FindVerb, changes: Changes | None = None, reuse: memory.Reuse | None = None
) -> RunOutcome:
    """Run a recipe with the verbs that `find` knows; `changes`: options with other values than the recipe's; `reuse`:
    looks elsewhere for a step that is done."""
    from ingot.core.recipe_report import recipe_report

    planned = plan(options.recipe, options.out, options.set, find, changes)
    folder = memory.open_folder(options.out)
    with memory.locked(folder):
        say("recipe-head", title=planned.title, count=len(planned.steps), out=options.out)
        _name_leftovers(planned, options.out)
        results: list[StepResult] = []
        try:
            _run_steps(planned, folder, results, reuse)
        except Exception as error:
            recipe_report(planned, results, options.recipe, failure=str(error)).save(options.out)
            raise
        report = recipe_report(planned, results, options.recipe)
        report.save(options.out)
    outcome = RunOutcome(report.model_copy(update={"path": options.out}), results)
    _say_end(outcome, planned)
    return outcome


def _run_steps(planned: Plan, folder: Path, results: list[StepResult], reuse: memory.Reuse | None) -> None:
    """Each step in order, until the last or until a gate fails; results grow as steps end."""
    source = memory.source_digest()
    for number, step in enumerate(planned.steps, start=1):
        results.append(_turn(step, f"{number}/{len(planned.steps)}", folder, source, reuse))
        if not results[-1].passed:
            return
        gc.collect()


def _turn(step: PlannedStep, number: str, folder: Path, source: str, reuse: memory.Reuse | None) -> StepResult:
    """Skip or run one step, then check its gates."""
    key, known = memory.step_key(step, source), memory.read_state(folder, step.name)
    if known is None and reuse is not None:
        known = reuse(step, key, folder)
    intact = known is not None and known.output == memory.output_digest(step.out)
    if known is not None and known.status == "done" and known.key == key and intact:
        say("recipe-skipped", number=number, name=step.name, verb=step.verb_name)
        known = memory.relocated(known, str(step.out or ""))
        return StepResult(step, known, False, check_gates(step, known.summary))
    say(_why(known, key, intact), number=number, name=step.name, verb=step.verb_name)
    state = _run(step, key, known, folder)
    result = StepResult(step, state, True, check_gates(step, state.summary))
    time_taken = show(state.seconds, "seconds", _spoken())
    say("recipe-done", number=number, name=step.name, time=time_taken, numbers=result.line() or "-")
    return result


def _why(known: StepState | None, key: str, intact: bool) -> str:
    """The sentence that tells why a step runs."""
    if known is None:
        return "recipe-start"
    if known.key != key:
        return "recipe-changed"
    return "recipe-continue" if known.status == "started" else "recipe-start" if intact else "recipe-damaged"


def _run(step: PlannedStep, key: str, known: StepState | None, folder: Path) -> StepState:
    """Run the verb; the state says "started" while it works and "done" when its output stands."""
    goes_on = known is not None and known.status == "started" and known.key == key
    resumes = goes_on and step.verb.options.model_fields.get("resume") is not None and not _finished(step.out)
    if known is None and step.out is not None and step.out.exists():
        refuse_nonempty(step.out)
    stale = None
    if not resumes:
        memory.forget_unfinished(step)
        stale = memory.move_aside(folder, step)
    memory.write_state(folder, step.name, StepState(key=key, status="started"))
    memory.remove_report(folder.parent)
    started = time.monotonic()
    outcome = _call(step, step.options.model_copy(update={"resume": True}) if resumes else step.options)
    seconds = round(time.monotonic() - started, 3)
    state = StepState(
        key=key,
        status="done",
        place=str(step.out or ""),
        output=memory.output_digest(step.out),
        summary=plain(outcome.summary()),
        proof=memory.proofs_of(step.out),
        report=outcome if isinstance(outcome, Report) else None,
        seconds=seconds,
        finished=now(),
    )
    memory.write_state(folder, step.name, state)
    if stale is not None:
        memory.remove(stale)
    return state


def _call(step: PlannedStep, options: Options) -> Any:
    """The verb itself; a failure is followed by which step it was."""
    try:
        return step.verb(options)
    except BaseException:
        warn("recipe-stopped", name=step.name, verb=step.verb_name)
        raise


def _finished(out: Path | None) -> bool:
    """Whether an output got its name, which it does whole or not at all, and only the state was not written."""
    return out is not None and out.exists()


def plain(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary as JSON holds it, so that a run and a skip report the same."""
    found: dict[str, Any] = json.loads(json.dumps(summary, ensure_ascii=False, allow_nan=False, default=str))
    return found


def check_gates(step: PlannedStep, summary: dict[str, Any]) -> list[GateResult]:
    """The step's gates; a summary that says it did not pass fails too, unless a gate of its own reads `passed`."""
    gates = list(step.gates)
    if summary.get("passed") is False and not any(gate.name == "passed" for gate in gates):
        gates.append(parse("passed == true"))
    return [gate.check(summary) for gate in gates]


def _name_leftovers(planned: Plan, out: Path) -> None:
    """Warn of directories that no step of this recipe makes."""
    known = {step.name for step in planned.steps}
    left = sorted(path.name for path in out.iterdir() if path.is_dir() and path.name not in known | {memory.FOLDER})
    if left := [name for name in left if not name.startswith(".")]:
        warn("recipe-leftovers", names=", ".join(left), out=out)


def _say_end(outcome: RunOutcome, planned: Plan) -> None:
    for result in outcome.results:
        for gate in result.gates:
            if not gate.holds:
                warn("recipe-gate-failed", name=result.step.name, gate=gate.gate.source, found=gate.found)
    say("recipe-report", path=outcome.summary()["report"])
    if outcome.passed and planned.next:
        say("recipe-next", commands="\n".join(f"  {command}" for command in planned.next))


def _spoken() -> Language:
    return "zh-TW" if language() == "zh" else "en"


@verb(RunOptions)
def run(options: RunOptions) -> RunOutcome:
    """Run a recipe: every step is checked first, run or skipped, proven, and shown in OUT/report.html."""
    return run_recipe(options, find_verb)
