"""The one training loop. Methods differ in which parameters train, what is predicted and what the loss is, never here.

A step: a batch of rows becomes a lesson; micro-batches' gradients add up; they are judged, before any weight changes
(health/watch.py); clip; update; a line in the log. A checkpoint every minute, written in the middle of a step: when its
loss and gradient have shown that the weights it starts from are healthy. Stopped at any moment and resumed, the run
goes on bit for bit on CPU in fp32 (unless its length is given in minutes: the clock is not repeatable).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ingot.core.errors import IngotError, fail
from ingot.core.progress import progress, say, warn
from ingot.data.objectives.lesson import Lesson
from ingot.data.objectives.next_token import next_token
from ingot.data.pack import Batch, Rows
from ingot.model.network import Network
from ingot.train.arrangement import arranged
from ingot.train.check import check_rows
from ingot.train.checkpoint import Place
from ingot.train.criterion import Criterion, Loss
from ingot.train.cross_entropy import PartLoss, compiled_loss, plain_loss
from ingot.train.distributed.sharing import ALONE, Sharing
from ingot.train.distributed.slices import norms
from ingot.train.health.gradients import Gradients, not_finite
from ingot.train.health.recovery import Recovery
from ingot.train.health.watch import LEAST_LOSS, Trouble, Watch
from ingot.train.loss import Inputs, prediction_loss
from ingot.train.machine import arrange_heap, choose_compile
from ingot.train.memory.running import Beginning, choose_checkpointing
from ingot.train.metrics import Metrics, tail_loss
from ingot.train.offload import Elsewhere
from ingot.train.optimizers import Optimizers
from ingot.train.plan import Plan, Result
from ingot.train.random_state import RandomState, random_state, set_random_state
from ingot.train.schedules import learning_rate

SAVE_SECONDS = 60.0
LAYERS_EVERY = 10
"""Steps from one line with the gradient's norm by layer to the next."""

NAMED = 20
"""Documents of a batch that are named at most."""

After = Callable[[dict[str, Any]], None]
"""Told the line of each step once it is in the log; what it raises ends the run."""

Teach = Callable[[Batch, int, int], Lesson]
"""The lesson of a batch, from seed and step: `Objective.lesson`."""


def go_on(line: dict[str, Any]) -> None:
    """Nothing is done after a step."""


def plain_lesson(batch: Batch, seed: int, step: int) -> Lesson:
    """Next token, which draws nothing."""
    return next_token(batch, np.random.default_rng(0))


@dataclass(frozen=True)
class Done:
    """A step that went well: its number, its loss, and the random state it began with."""

    step: int
    loss: float
    random: RandomState


class Run:
    """A run in progress. `name_of` says which document a number in `rows` stands for."""

    def __init__(
        self,
        network: Network,
        rows: Rows,
        plan: Plan,
        place: Place,
        *,
        teach: Teach = plain_lesson,
        loss: Loss | Criterion = prediction_loss,
        name_of: Callable[[int], str] = str,
        sharing: Sharing = ALONE,
        after: After = go_on,
    ) -> None:
        self.network, self.rows, self.plan, self.place = network, rows, plan, place
        self.teach, self.name_of, self.sharing, self.after = teach, name_of, sharing, after
        self.criterion = loss if isinstance(loss, Criterion) else Criterion(loss)
        self.device = network.embedding.weight.device
        offloads = plan.options.offload != "none"
        self.optimizers = Optimizers(network, plan.options, Elsewhere(self.device, place.path) if offloads else None)
        self.gradients = Gradients.of(network)
        self.watch = Watch()
        self.recovery = Recovery(place.recovery, writes=sharing.world.is_first)
        self.log = Metrics(place.metrics, writes=sharing.world.is_first)
        self.step = self.targets = 0
        self.seconds = 0.0
        self.compiled: bool | None = None
        self.checkpointing: bool | None = None
        self.part_loss: PartLoss = plain_loss
        self.previous: Done | None = None
        self.saved = -math.inf if plan.options.recover == "on" else 0.0

    def progress(self) -> float:
        """Share of the run that is done, by steps or by the clock, whichever is further."""
        by_clock = self.seconds / (60 * self.plan.max_minutes) if self.plan.max_minutes else 0.0
        return max(self.step / self.plan.max_steps, by_clock)

    def go(self, resumed: bool) -> Result:
        """Train to the end. Raises `loss-not-finite`, `step-went-wrong`, `training-unstable` and `nothing-asked`."""
        check_rows(self.rows, self.network.config)
        if resumed:
            self._restore()
            self.recovery = Recovery.open(self.place.recovery, writes=self.sharing.world.is_first)
            say("resumed", step=self.step, total=self.plan.max_steps)
        self.optimizers.tell(self.plan.lr)
        self.network.train()
        self._choose_checkpointing()
        self._arrange_heap()
        self._compile()
        self._arrange_heap()
        with arranged(self.network, self.plan.options, self.checkpointing), progress("train", 1.0) as advance:
            while self.progress() < 1.0 or not self._ended_well():
                line = self._one_step()
                if line:
                    self.log.add(line)
                    self.after(line)
                    note = f"loss {line['loss']:.3f}  {line['tokens_per_second']:,.0f} tok/s"
                    advance(min(self.progress(), 1.0), note)
        if self.targets == 0:
            raise fail("nothing-asked", steps=self.step)
        self._save(random_state(self.device))
        self.network.eval()
        events = tuple(self.recovery.events)
        loss = tail_loss(self.place.metrics)
        chosen = bool(self.compiled), bool(self.checkpointing)
        return Result(self.step, self.targets, self.seconds, loss, *chosen, self.optimizers.bytes, events)

    def _one_step(self) -> dict[str, Any] | None:
        """One step; its line in the log, None where the step is passed over."""
        begin = time.perf_counter()
        lesson = self._lesson(self.step)
        if self.step in self.recovery.skipped or lesson.num_targets == 0:
            self.step += 1
            return None
        before = random_state(self.device)
        loss = self._accumulate(lesson)
        norm, by_layer = self.gradients.clip(self.plan.options.clip)
        trouble = self.watch.judge(loss, norm)
        if trouble and not self._is_a_new_level(trouble):
            self._go_wrong(trouble, lesson, before, {"loss": loss, "norm": norm, "layers": not_finite(by_layer)})
            return None
        if self.seconds - self.saved >= SAVE_SECONDS:
            self._save(before)
        self.watch.accept(loss, norm)
        rate = learning_rate(self.plan.lr, self.progress(), self.plan.options) * self.recovery.rate_share
        self.optimizers.step(rate)
        self.previous = Done(self.step, loss, before)
        spent = self.sharing.world.mean(time.perf_counter() - begin)
        return self._line(lesson, loss, rate, norm, by_layer, spent)

    def _line(
        self, lesson: Lesson, loss: float, rate: float, norm: float, by_layer: dict[str, float], spent: float
    ) -> dict[str, Any]:
        told = self.criterion.numbers(self.sharing.world)
        layers = {"layers": {name: float(f"{value:.4g}") for name, value in by_layer.items()}}
        self.step, self.targets, self.seconds = self.step + 1, self.targets + lesson.num_targets, self.seconds + spent
        return {"step": self.step, "loss": loss, "lr": rate, "norm": norm, "targets": self.targets,
                "seconds": round(self.seconds, 3), "tokens_per_second": round(lesson.num_tokens / spent, 1),
                } | told | (layers if (self.step - 1) % LAYERS_EVERY == 0 else {})  # fmt: skip

    def _lesson(self, step: int) -> Lesson:
        return self.teach(self.rows.batch(step, self.plan.batch_rows, self.plan.seed), self.plan.seed, step)

    def _accumulate(self, lesson: Lesson) -> float:
        """Gradients of the mean loss, micro-batch by micro-batch; returns that mean."""
        losses, count = [], self.criterion.count(lesson)
        self.criterion.begin(self.step)
        for part in self.sharing.parts(lesson, self.plan.options.micro_batches):
            loss = self._loss(part) / count
            (loss * self.sharing.loss_scale).backward()
            losses.append(loss.detach())
        self.sharing.add_up()
        return self.sharing.total_loss(sum(map(float, losses)))

    def _loss(self, lesson: Lesson) -> Tensor:
        enabled = self.plan.precision != torch.float32
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled):
            return self.criterion(self.network, Inputs.of(lesson, self.device), self.part_loss)

    def _is_a_new_level(self, trouble: Trouble) -> bool:
        """A spike behind others whose batches were to blame: this is how the data is from here on."""
        is_new = trouble.endswith("spike") and self.recovery.are_all_skipped_before(self.step)
        if is_new:
            self.watch.forget()
        return is_new

    def _go_wrong(self, trouble: Trouble, lesson: Lesson, before: RandomState, found: dict[str, Any]) -> None:
        """Undo the step, find out whether the batch or the weights are to blame, and go on without the cause."""
        self.optimizers.zero_grad()
        set_random_state(before, self.device)
        if self.plan.options.recover == "off" or (self.previous is None and not self._are_weights_finite()):
            raise self._failure(trouble, lesson, found)
        if self.previous is not None and self._has_jumped(self.previous):
            self._roll_back(self.previous.step, trouble, found)
            return
        event = self._event("skipped", trouble, self.step, lesson, found)
        warn("step-skipped", step=self.step, reason=trouble, documents=_list(event["documents"]))
        self.recovery.skip(self.step, event)

    def _roll_back(self, culprit: int, trouble: Trouble, found: dict[str, Any]) -> None:
        """Back to the newest checkpoint; `culprit` is the step whose update broke the weights."""
        seconds = self.seconds
        to = self.place.newest_step()
        event = self._event("rolled-back", trouble, culprit, self._lesson(culprit), found) | {"to": to}
        warn("rolled-back", step=culprit, to=to, reason=trouble, documents=_list(event["documents"]))
        self.recovery.roll_back(to, culprit, event)
        self._restore()
        self.seconds, self.previous = seconds, None

    def _event(self, kind: str, trouble: Trouble, step: int, lesson: Lesson, found: dict[str, Any]) -> dict[str, Any]:
        """What happened, for the log and the hallmark. JSON has no NaN: numbers that are not finite become words."""
        numbers = {key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
                   for key, value in found.items()}  # fmt: skip
        documents = self._documents(lesson)
        event = {"event": kind, "step": step, "reason": trouble, **numbers, "rows": lesson.rows.tolist(),
                 "documents": documents}  # fmt: skip
        self.log.add(event)
        self.log.sync()
        return event

    def _documents(self, lesson: Lesson) -> list[str]:
        """The documents of a batch by name, or its rows by number where rows do not know theirs."""
        numbers = dict.fromkeys(number for row in lesson.rows.tolist() for number in self.rows.documents(row))
        names = list(dict.fromkeys(map(self.name_of, numbers))) or [f"row {row}" for row in lesson.rows.tolist()]
        return names if len(names) <= NAMED else [*names[:NAMED], f"and {len(names) - NAMED} more"]

    def _failure(self, trouble: Trouble, lesson: Lesson, found: dict[str, Any]) -> IngotError:
        code = "loss-not-finite" if trouble.endswith("finite") else "step-went-wrong"
        details = {"loss": f"{found['loss']:.4g}", "norm": f"{found['norm']:.4g}", "reason": trouble}
        return fail(code, step=self.step, documents=_list(self._documents(lesson)), **details)

    def _ended_well(self) -> bool:
        """Whether the last update left the weights healthy; they are rolled back where it did not."""
        if self.previous is None or not self._has_jumped(self.previous):
            return True
        lesson = self._lesson(self.previous.step)
        found = {"loss": math.nan, "norm": math.nan, "layers": []}
        if self.plan.options.recover == "off":
            raise self._failure("loss-spike", lesson, found)
        self._roll_back(self.previous.step, "loss-spike", found)
        return False

    @torch.no_grad()
    def _has_jumped(self, done: Done) -> bool:
        """Whether the loss of a step's batch is far above what it was before that step's update."""
        now = random_state(self.device)
        set_random_state(done.random, self.device)
        lesson = self._lesson(done.step)
        self.criterion.begin(done.step)
        parts = self.sharing.parts(lesson, self.plan.options.micro_batches)
        loss = self.sharing.total_loss(sum(float(self._loss(part)) for part in parts) / self.criterion.count(lesson))
        self.sharing.settle()
        set_random_state(now, self.device)
        return not math.isfinite(loss) or loss > done.loss + LEAST_LOSS

    def _are_weights_finite(self) -> bool:
        return all(map(math.isfinite, norms([parameter.detach() for parameter in self.network.parameters()])))

    def _choose_checkpointing(self) -> None:
        """Decide once, and remember it: a machine's free memory changes. Several processes choose nothing, because none
        knows what the others will take."""
        wanted = self.plan.options.checkpointing
        if self.checkpointing is not None:
            return
        self.checkpointing = wanted == "on"
        if wanted == "auto" and self.sharing.world.size == 1:
            random = random_state(self.device)
            beginning = Beginning(self.network, self.plan, self.criterion, self._lesson(0))
            self.checkpointing = choose_checkpointing(beginning)
            set_random_state(random, self.device)

    def _arrange_heap(self) -> None:
        """Memory is saved where that was asked for, but for compiled steps: they leave few holes (LOG.md)."""
        saves = bool(self.checkpointing) or self.plan.options.offload != "none"
        arrange_heap(saving=saves and not self.compiled)

    def _compile(self) -> None:
        """Decide once, and remember it: compiled and plain steps differ in the last bit."""
        if self.compiled is None:
            lesson = self._lesson(0)
            random = random_state(self.device)
            self.compiled = self._pays_to_compile(lesson)
            set_random_state(random, self.device)
        if self.compiled:
            for block in self.network.blocks:
                block.compile()
            self.part_loss = compiled_loss()

    def _pays_to_compile(self, lesson: Lesson) -> bool:
        """Several processes measure nothing, because each would have to rehearse with all the others."""
        wanted = self.plan.options.compile
        if self.plan.options.offload == "layers" and self.device.type == "cuda":
            return False
        if self.sharing.world.size > 1 and wanted == "auto":
            wanted = "on" if self.device.type == "cuda" else "off"
        return choose_compile(wanted, lambda: self._rehearse(lesson), self._seconds_at)

    def _rehearse(self, lesson: Lesson) -> Tensor:
        """The work of a step without its effect."""
        self.criterion.begin(0)
        loss = self._loss(lesson)
        loss.backward()
        self.optimizers.zero_grad()
        return loss.detach()

    def _seconds_at(self, seconds_a_step: float) -> float:
        by_steps = (self.plan.max_steps - self.step) * seconds_a_step
        return min(by_steps, 60 * self.plan.max_minutes) if self.plan.max_minutes else by_steps

    def _save(self, random: RandomState) -> None:
        """A checkpoint of the weights as they are, before the step that begins with this random state."""
        self.log.sync()
        state = {"step": self.step, "targets": self.targets, "seconds": self.seconds, "compiled": self.compiled,
                 "checkpointing": self.checkpointing, "precision": str(self.plan.precision).removeprefix("torch."),
                 "losses": self.watch.losses, "norms": self.watch.norms}  # fmt: skip
        self.place.save(self.network, self.optimizers, random, state, self.sharing.world)
        self.saved = self.seconds

    def _restore(self) -> None:
        """Back to the newest checkpoint."""
        state, random = self.place.load(self.network, self.optimizers)
        set_random_state(random, self.device)
        self.sharing.spread_chance(self.plan.seed, state["step"])
        self.step, self.targets, self.seconds = state["step"], state["targets"], state["seconds"]
        self.compiled, self.checkpointing = state["compiled"], state["checkpointing"]
        self.watch = Watch(state["losses"], state["norms"])
        self.log.cut(self.step)


def _list(names: list[str]) -> str:
    return ", ".join(names)
