"""What a recipe remembers between runs, and how it decides whether a step can be skipped.

`OUT/.recipe/STEP.json` holds the step's key and the digest of its output. The key covers the verb, the options with
every path replaced by the digest of what lies there, and ingot's own source files, so that changed data, options or
code run the step again; a moved directory does not. A step is skipped only when its key and the digest of what lies
in its output both agree: a damaged output is made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

import ingot
from ingot.core.errors import fail
from ingot.core.files import directory_files, file_digest, path_digest, tree_digest, write_file
from ingot.core.hallmark import Hallmark, Proof, Record
from ingot.core.model_dir import split_reference
from ingot.core.recipe_plan import PlannedStep
from ingot.core.report import HTML_NAME, JSON_NAME, Report

FOLDER = ".recipe"
UNKEYED = ("out", "resume")
"""Options that do not change what a step makes."""
WORDS = ("core/messages/", "core/help.yaml")
"""Source files that change what is said and not what is made."""


class StepState(Record):
    """What is known of a step: started, or done with what it said, wrote and proved."""

    format: Literal[1] = 1
    key: str
    status: Literal["started", "done"]
    place: str = ""
    output: str | None = None
    summary: dict[str, Any] = Field(default_factory=dict)
    proof: list[Proof] = Field(default_factory=list)
    report: Report | None = None
    seconds: float = 0.0
    finished: str = ""


def open_folder(out: Path) -> Path:
    """The folder of states in OUT. Refuses an OUT that holds something else (`out-not-empty`)."""
    folder = out / FOLDER
    if not folder.is_dir() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise fail("out-not-empty", path=out)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; another run of the same OUT is refused (`recipe-running`)."""
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise fail("recipe-running", path=folder.parent) from None
        yield


def source_digest() -> str:
    """Digest of ingot's own files, without those that hold only words."""
    root = Path(ingot.__file__).parent
    files = {name: digest for name, digest in directory_files(root).items()
             if "__pycache__" not in name and not name.startswith(WORDS)}  # fmt: skip
    return tree_digest(files)


def step_key(step: PlannedStep, source: str) -> str:
    """The digest that decides whether a step would do the same again."""
    options = step.options.model_dump(mode="json", exclude=set(UNKEYED))
    content = {"verb": step.verb_name, "options": _digested(options), "source": source}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _digested(value: Any) -> Any:
    """The value with each string that names something on the disk replaced by the digest of it."""
    if isinstance(value, dict):
        return {key: _digested(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_digested(inner) for inner in value]
    return _digest_of_name(value) if isinstance(value, str) and value.strip() else value


def _digest_of_name(name: str) -> Any:
    try:
        base, adapters = split_reference(name)
        paths = [base, *adapters]
        return [path_digest(path) for path in paths] if all(path.exists() for path in paths) else name
    except (OSError, ValueError):  # too long or impossible as a path, hence not one
        return name


def output_digest(out: Path | None) -> str | None:
    """Digest of all that a step wrote, its hallmark included; None where nothing lies there."""
    if out is None or not out.exists():
        return None
    hallmark = out / "hallmark.json"
    return path_digest(out) + (file_digest(hallmark) if hallmark.exists() else "")


def read_state(folder: Path, name: str) -> StepState | None:
    """The state of a step; None where there is none, or none that can be read."""
    try:
        return StepState.model_validate_json((folder / f"{name}.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def relocated(state: StepState, place: str) -> StepState:
    """The state of an output that was moved: paths in its summary lead to where it lies now."""
    if not state.place or state.place == place:
        return state
    summary = {key: place + value.removeprefix(state.place) if isinstance(value, str) and value.startswith(state.place)
               else value for key, value in state.summary.items()}  # fmt: skip
    return state.model_copy(update={"place": place, "summary": summary})


Reuse = Callable[[PlannedStep, str, Path], StepState | None]
"""(step, its key, the folder of states of this run) -> the state of the same step brought over from another run."""


def bring(step: PlannedStep, key: str, folder: Path, source: Path) -> StepState | None:
    """A step that is done in the run whose states lie in `source`, brought over: files are linked, not copied, because
    no step writes in place. None where that run has not done the same, or what it wrote was changed."""
    known = read_state(source, step.name)
    if known is None or known.status != "done" or known.key != key:
        return None
    place = Path(known.place) if known.place else None
    if known.output != output_digest(place):
        return None
    if place is not None and step.out is not None and place.is_dir():
        shutil.copytree(place, step.out, copy_function=_link)
    elif place is not None and step.out is not None and place.exists():
        _link(str(place), str(step.out))
    state = relocated(known, str(step.out or ""))
    write_state(folder, step.name, state)
    return state


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def write_state(folder: Path, name: str, state: StepState) -> None:
    write_file(folder / f"{name}.json", state.model_dump_json(indent=2) + "\n")


def proofs_of(out: Path | None) -> list[Proof]:
    """What the hallmark of an output says was proven."""
    hallmark = Hallmark.read(out) if out is not None and out.is_dir() else None
    return hallmark.step.proof if hallmark else []


def move_aside(folder: Path, step: PlannedStep) -> Path | None:
    """Take an old output out of the way; it is deleted once the new one stands. None where there was none."""
    if step.out is None or not step.out.exists():
        return None
    stale = folder / "stale" / step.name
    remove(stale)
    stale.parent.mkdir(exist_ok=True)
    return step.out.rename(stale)


def forget_unfinished(step: PlannedStep) -> None:
    """Delete what a stopped step left beside its output, as `.NAME.*`: it belongs to other options or other data."""
    if step.out is not None:
        for path in step.out.parent.glob(f".{step.name}.*"):
            remove(path)


def remove_report(out: Path) -> None:
    """Delete the report of an earlier run, which is no longer true once a step runs again."""
    for name in (JSON_NAME, HTML_NAME):
        (out / name).unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a file or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
