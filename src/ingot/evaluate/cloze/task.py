"""Task `cloze`: which of some fillers belongs in a gap, asked of each model in the way its kind can answer.

It is the measure that decoders, encoders and encoder-decoders share: the same texts, the same fillers, and a sum of log
probabilities for each (`infer/gap.py`). An item is right when its true filler scores above all others; a tie is wrong.
Items whose deciding text stands before the gap are shown apart from those where it stands after, and by language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.language import text
from ingot.data.objectives.options import Form
from ingot.evaluate.cloze.from_world import world_directory, world_items
from ingot.evaluate.cloze.item import Item
from ingot.evaluate.cloze.page import score
from ingot.evaluate.cloze.views import item_values
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.questions import read_questions
from ingot.evaluate.subset import stratified
from ingot.evaluate.task import Row, Task
from ingot.infer.gap import Gap, asker, gap_scores
from ingot.text.tokenizer import Tokenizer


def prepare(options: EvaluateOptions) -> list[Item]:
    """The items to ask: those of a file, else of the world; a stratified sample where `limit` says so. Raises
    `evaluate-fillers-unused` where a file has its own fillers."""
    file = options.cloze.items
    if file is None:
        items = world_items(world_directory(options), options.cloze.fillers)
    elif "fillers" in options.cloze.model_fields_set:
        raise fail("evaluate-fillers-unused", path=file)
    else:
        items = read_questions(file, Item)
    return stratified(items, options.limit, options.seed, lambda item: (item.group, item.lang), lambda item: item.id)


def check(tokenizer: Tokenizer, form: Form) -> None:
    """Raises `gap-lacks-tokens`, `objective-lacks-end` for a tokenizer without what its kind of model is asked with."""
    asker(tokenizer, form)


def measure(model: LanguageModel, items: Sequence[Item], options: EvaluateOptions) -> list[Row]:
    """One row an item: the item itself, and the scores of its fillers."""
    gaps = [Gap(item.before, tuple(item.fillers), item.after) for item in items]
    scores = gap_scores(model, gaps, text("evaluate-filling", model=model.name))
    return [{**item.model_dump(), **asdict(found)} for item, found in zip(items, scores, strict=True)]


TASK = Task(
    raw="gaps",
    prepare=prepare,
    measure=measure,
    score=score,
    options=("world", "cloze", "samples"),
    forms=("decoder", "encoder", "encoder-decoder"),
    check=check,
    values=item_values,
)
