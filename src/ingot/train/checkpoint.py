"""The state of a run on disk: enough to go on as if it had never stopped.

Kept beside the output, in `.NAME.training/`: what the run is (`run.json`), its log (`metrics.jsonl`) and the newest
checkpoint, written whole under a new name before the older one goes. Tensors are safetensors, the rest JSON. The order
of the data needs no state: a batch is a function of the step.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ingot.core.errors import IngotError, fail
from ingot.core.files import new_directory, path_digest, write_file
from ingot.core.model_dir import read_header, read_json
from ingot.model.weights import read_tensor, spec_of, write_tensors
from ingot.train.distributed.slices import sliced_like, whole
from ingot.train.distributed.world import World
from ingot.train.optimizers import Optimizers
from ingot.train.optimizers.groups import trainable
from ingot.train.random_state import RandomState
from ingot.train.settings import TrainingOptions


@dataclass(frozen=True)
class Place:
    """Where a run keeps its state."""

    path: Path

    @classmethod
    def beside(cls, out: Path) -> Place:
        return cls(out.parent / f".{out.name}.training")

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def recovery(self) -> Path:
        return self.path / "recovery.json"

    def fresh(self, name: str) -> Path:
        """An empty folder here for what a run can make again."""
        shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / name).mkdir(parents=True)
        return self.path / name

    def begin(self, run: dict[str, Any], resume: bool) -> bool:
        """Prepare for a run; True when an earlier one is to be continued.

        Raises `unfinished-run` when one lies there and was not asked for, `resume-differs` when it is another run.
        """
        present = (self.path / "run.json").exists()
        if present and not resume:
            raise fail("unfinished-run", path=self.path)
        if present:
            self._check_same(run)
        if present and self.newest() is not None:
            return True
        self.path.mkdir(parents=True, exist_ok=True)
        for left in (self.metrics, self.recovery):  # of a run that ended before its first checkpoint
            left.unlink(missing_ok=True)
        write_file(self.path / "run.json", json.dumps(run, indent=2, ensure_ascii=False))
        return False

    @contextlib.contextmanager
    def unless_refused(self, resumed: bool, is_first: bool) -> Iterator[None]:
        """What is refused before the first step leaves no unfinished run behind, unless one was to be continued."""
        try:
            yield
        except IngotError:
            if is_first and not resumed:
                self.remove()
            raise

    def _check_same(self, run: dict[str, Any]) -> None:
        before = read_json(self.path / "run.json")
        for key in sorted(before.keys() | run.keys()):
            if before.get(key) != run.get(key):
                details = {"found": repr(run.get(key)), "expected": repr(before.get(key))}
                raise fail("resume-differs", path=self.path, key=key, **details)

    def newest(self) -> Path | None:
        """The newest whole checkpoint."""
        found = sorted(self.path.glob("step-*"))
        return found[-1] if found else None

    def newest_step(self) -> int:
        """The step of the newest checkpoint. There is one."""
        path = self.newest()
        assert path is not None
        return int(path.name.removeprefix("step-"))

    def precision(self) -> torch.dtype | None:
        """In which precision the run was begun, once it has a checkpoint: measured anew it could be another."""
        newest = self.newest()
        return getattr(torch, read_json(newest / "state.json")["precision"]) if newest else None

    def save(
        self, model: nn.Module, optimizers: Optimizers, random: RandomState, state: dict[str, Any], world: World
    ) -> None:
        """Write a checkpoint at `state["step"]`, then remove the older ones.

        The first process writes whole tensors, gathered one by one, so that any number of processes can go on.
        """
        tensors = _tensors(model, optimizers, random)
        if world.is_first:
            self._write(tensors, state)
        elif not self._target(state).exists():
            for tensor in tensors.values():
                whole(tensor)
        world.wait()

    def _target(self, state: dict[str, Any]) -> Path:
        return self.path / f"step-{state['step']:09d}"

    def _write(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        target = self._target(state)
        older = [path for path in self.path.glob("step-*") if path != target]
        if not target.exists():
            with new_directory(target) as partial:
                gathered = ((name, whole(tensor)) for name, tensor in tensors.items())
                write_tensors(partial / "state.safetensors", spec_of(tensors), gathered)
                (partial / "state.json").write_text(json.dumps(state))
        for path in older:
            shutil.rmtree(path)

    def load(self, model: nn.Module, optimizers: Optimizers) -> tuple[dict[str, Any], RandomState]:
        """Put the newest checkpoint back; returns its state and the random state that goes with it."""
        path = self.newest()
        assert path is not None
        saved = {name: read_tensor(entry) for name, entry in read_header(path / "state.safetensors").items()}
        with torch.no_grad():
            for name, parameter in trainable(model).items():
                parameter.copy_(sliced_like(saved[f"model.{name}"], parameter))
        optimizers.load(_below(saved, "optimizer."))
        return read_json(path / "state.json"), _below(saved, "random.")

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def identity(options: TrainingOptions, **inputs: Path | list[Path]) -> dict[str, Any]:
    """What must be the same for a run to go on: every option, and the inputs byte for byte, wherever they lie. On how
    many processes it runs, how they share the work, where its tensors live, what it shows and measures, and how long it
    searches for settings, may change."""
    kept = options.model_dump(mode="json", exclude={"resume", "out", "launch", *inputs})
    del kept["loop"]["parallel"], kept["loop"]["offload"]
    for group, name in (("chats", "show_mask"), ("forgetting", "general"), ("search", "trials"), ("search", "minutes")):
        kept.get(group, {}).pop(name, None)
    lists = {name: paths if isinstance(paths, list) else [paths] for name, paths in inputs.items()}
    return kept | {name: [path_digest(path) for path in paths] for name, paths in lists.items()}


def _tensors(model: nn.Module, optimizers: Optimizers, random: RandomState) -> dict[str, Tensor]:
    """Everything a checkpoint holds, by name."""
    weights = {f"model.{name}": parameter.detach() for name, parameter in trainable(model).items()}
    moments = {f"optimizer.{name}": value for name, value in optimizers.state()}
    return weights | moments | {f"random.{name}": value for name, value in random.items()}


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
