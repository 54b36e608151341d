"""The world's questions: of a model that grew up on a world, which of some values it holds for the true one.

Asked only where the hallmark says that the model learnt from the corpus of a world that lies here: any other could only
guess, before and after, and the figure would say nothing about what was forgotten. A question stands as in the corpus,
with its answer behind it, and each value is tried in the answer's gap (`infer/gap.py`), so every kind of network can be
asked. Asked about are facts told in prose only, which chats of the world never teach, where there are any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingot.adapt.load import LanguageModel
from ingot.core.files import file_digest
from ingot.core.lineage import learning_steps
from ingot.data.world.entities import PROSE
from ingot.data.world.questions import ASKING
from ingot.data.world.sentences import NAMED
from ingot.data.world.truth import NAME, Fact, Truth, choose_fillers, facts, read_truth, with_gap
from ingot.data.world.words import stream
from ingot.infer.gap import Gap, gap_scores
from ingot.train.forgetting.text import tokens_for

CORPUS = "corpus.jsonl"
FILLERS = 4
TOKENS = 200
"""About what the fillers of one question are together."""

LEAST, MOST = 12, 64
"""Questions at least and at most, where there are so many."""


@dataclass(frozen=True)
class Question:
    """A gap, the number of its true filler, and whom it is about."""

    gap: Gap
    right: int
    subject: str


def home_world(model: LanguageModel, data: Path) -> Path | None:
    """The world that a model grew up on: where its data lay when it learnt, or around `data`; None where no corpus that
    lies there is one it learnt from."""
    steps = list(learning_steps(model.reference))
    digests = {source.digest for step in steps for source in step.data}
    given = [data, *(Path(step.options["data"]) for step in steps if isinstance(step.options.get("data"), str))]
    for place in dict.fromkeys(place for path in given for place in (path, path.parent)):
        if (place / NAME).is_file() and (place / CORPUS).is_file() and file_digest(place / CORPUS) in digests:
            return place
    return None


def world_questions(world: Path, model: LanguageModel) -> list[Question]:
    """Questions about a world, as many as suit the model; the same each time. None where no fact has two values."""
    truth = read_truth(world / NAME)
    told = [fact for fact in facts(truth) if len(_values(truth, fact)) > 1]
    chosen = [fact for fact in told if fact.entity.role == PROSE] or told
    count = max(LEAST, min(MOST, int(tokens_for(model)) // TOKENS))
    chosen = stream(truth.dials.seed, "forgetting").sample(chosen, min(count, len(chosen)))
    return [_question(truth, fact) for fact in chosen]


def chance(questions: Sequence[Question]) -> float:
    """The share that guessing gets right."""
    return sum(1 / len(question.gap.fillers) for question in questions) / len(questions)


def answered(model: LanguageModel, questions: Sequence[Question]) -> list[bool]:
    """Whether the true value scores above all others, by question. Raises what `gap_scores` raises."""
    scores = gap_scores(model, [question.gap for question in questions])
    return [_is_right(score.nats, question.right) for score, question in zip(scores, questions, strict=True)]


def _is_right(nats: list[float], right: int) -> bool:
    return all(nats[right] > other for number, other in enumerate(nats) if number != right)


def _values(truth: Truth, fact: Fact) -> list[str]:
    return list(truth.values(fact.entity.kind, fact.relation, fact.language))


def _question(truth: Truth, fact: Fact) -> Question:
    rng = stream(truth.dials.seed, f"forgetting/{fact.number}/{fact.relation}/{fact.language}")
    fillers = choose_fillers(_values(truth, fact), fact.right, FILLERS, rng)
    before, shown, after = with_gap(fact, NAMED[fact.relation][fact.language][0], fillers)
    asked = rng.choice(ASKING[fact.relation][fact.language]).format(n=fact.entity.name[fact.language])
    return Question(Gap(f"{asked}\n{before}", tuple(shown), after), fillers.index(fact.right), str(fact.number))
