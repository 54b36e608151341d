"""Measure before and after, and write down what was lost.

Before: the network as it came, with what is to be trained idle (full tuning: adapters that were there are merged).
After: with what was trained. Both on the CPU, where the network is before it is moved and after it is proven, in the
numbers that it is held in while it is tuned, and on the same texts. What was found before is kept with the run's state,
so a resumed run does not measure it again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError
from ingot.core.files import write_file
from ingot.core.language import text
from ingot.core.model_dir import Draft, read_json
from ingot.core.progress import say
from ingot.data.objectives.objective import Objective
from ingot.train.forgetting.difference import Difference, difference
from ingot.train.forgetting.options import OFF
from ingot.train.forgetting.page import Findings, numbers, sections, sentence
from ingot.train.forgetting.questions import Question, answered, chance, home_world, world_questions
from ingot.train.forgetting.scores import is_in_bytes, score_texts
from ingot.train.forgetting.text import General, general_text
from ingot.train.method import TUNED
from ingot.train.write import add_to_report

FILE = "forgetting.json"
CANNOT = {"gap-lacks-tokens", "objective-lacks-end", "gap-too-long"}
"""Why a model cannot be asked the world's questions."""


@dataclass(frozen=True)
class Measured:
    """By text, what the model pays and for how much; by question, whether it is right, or why none was asked."""

    paid: list[float]
    sizes: list[int]
    right: list[bool]
    reason: str


@dataclass(frozen=True)
class Subject:
    """What a model is measured on, and in rows of how many tokens."""

    general: General
    questions: Sequence[Question]
    length: int

    @classmethod
    def of(cls, wanted: str, data: Path, model: LanguageModel, length: int) -> Subject | None:
        """What the option names; None where nothing is to be measured. Raises `general-is-data`, and what reading the
        text raises."""
        if wanted == OFF:
            return None
        world = home_world(model, data)
        return cls(general_text(wanted, data, model), world_questions(world, model) if world else [], length)

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.general.digest} {list(self.questions)}".encode()).hexdigest()

    def measure(self, model: LanguageModel, objective: Objective) -> Measured:
        scores = score_texts(model, objective, self.general.texts, self.length)
        right, reason = self._ask(model)
        return Measured(scores.paid, scores.sizes, right, reason)

    def _ask(self, model: LanguageModel) -> tuple[list[bool], str]:
        if not self.questions:
            return [], text("forgetting-no-world")
        try:
            return answered(model, self.questions), ""
        except IngotError as error:
            if error.code not in CANNOT:
                raise
            return [], text("forgetting-cannot-ask", reason=error)


@dataclass(frozen=True)
class Forgetting:
    """What was found before tuning, and what measures it again; None where forgetting is not measured."""

    subject: Subject | None = None
    before: Measured | None = None

    @classmethod
    def begin(cls, subject: Subject | None, model: LanguageModel, objective: Objective, place: Path) -> Forgetting:
        """Measure a model that is ready to be tuned, or take what an earlier start of the run in `place` found."""
        if subject is None:
            return cls()
        kept = read_json(place / FILE) if (place / FILE).exists() else {}
        if kept.get("digest") == subject.digest:
            return cls(subject, Measured(**kept["before"]))
        model.network.eval()
        with model.active.without(TUNED):
            before = subject.measure(model, objective)
        write_file(place / FILE, json.dumps({"digest": subject.digest, "before": asdict(before)}))
        return cls(subject, before)

    def end(self, draft: Draft, model: LanguageModel, objective: Objective) -> Findings | None:
        """Measure the tuned model, which is on the CPU and in eval mode; what was lost to hallmark and report."""
        found = self._found(model, objective)
        draft.numbers |= numbers(found) if found else {}
        add_to_report(draft, sections(found))
        return found

    def _found(self, model: LanguageModel, objective: Objective) -> Findings | None:
        if self.subject is None or self.before is None:
            return None
        before, after, subject = self.before, self.subject.measure(model, objective), self.subject
        unit = "forgetting-bits" if is_in_bytes(model) else "forgetting-nats"
        return Findings(
            general=difference(before.paid, after.paid, before.sizes) if sum(before.sizes) else None,
            in_bytes=is_in_bytes(model),
            unit=text(unit, objective=objective.name),
            text=subject.general,
            questions=_by_subject(subject.questions, before.right, after.right) if before.right else None,
            num_questions=len(before.right),
            chance=chance(subject.questions) if before.right else math.nan,
            reason=before.reason,
        )


def tell(found: Findings | None) -> None:
    """Say in a line what was lost; nothing where nothing was measured."""
    if found is not None:
        say("forgot", sentence=sentence(found))


def _by_subject(questions: Sequence[Question], before: Sequence[bool], after: Sequence[bool]) -> Difference:
    """Questions about one subject are answered alike, so subjects are the units."""
    units: dict[str, list[int]] = {}
    for question, first, second in zip(questions, before, after, strict=True):
        sums = units.setdefault(question.subject, [0, 0, 0])
        for place, one in enumerate((first, second, 1)):
            sums[place] += one
    firsts, seconds, sizes = zip(*units.values(), strict=True)
    return difference(firsts, seconds, sizes)
