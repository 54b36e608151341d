"""Cloze items from a world's truth table and corpus: a true sentence about someone, one fact of it left out.

Every told fact is asked twice in each language, with the same fillers: in a sentence that names its owner before the
gap, and in one that does so after it. What decides is on the left of the first and on the right of the second. The
wrong fillers are values of the same fact of others, near in length (`data/world/truth.py`). Same world, same items.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from ingot.core.errors import fail
from ingot.data.read import read_documents
from ingot.data.world.sentences import NAMED
from ingot.data.world.truth import NAME, Fact, Truth, choose_fillers, facts, read_truth, sides, with_gap
from ingot.data.world.words import stream
from ingot.evaluate.cloze.item import AFTER, BEFORE, Item
from ingot.evaluate.options import EvaluateOptions


def world_directory(options: EvaluateOptions) -> Path:
    """The world to ask about: `world`, else the one that `data` is or lies in. Raises `evaluate-no-truth`."""
    given = options.world if options.world is not None else options.data
    for place in [] if given is None else [given, given.parent]:
        if (place / NAME).is_file():
            return place
    raise fail("evaluate-no-truth", found=given or "-")


def world_items(directory: Path, num_fillers: int) -> list[Item]:
    """All items of a world, in the order of its truth table. Raises `evaluate-bad-truth`, `evaluate-cloze-empty`."""
    truth = read_truth(directory / NAME)
    corpus = "\n".join(document.text for document in read_documents(directory))
    items = list(make_items(truth, corpus, num_fillers))
    if not items:
        raise fail("evaluate-cloze-empty", path=directory)
    return items


def make_items(truth: Truth, corpus: str, num_fillers: int) -> Iterator[Item]:
    """Two items for each fact and language, but for facts that are the same for all, which leave no wrong filler."""
    for fact in facts(truth):
        values = truth.values(fact.entity.kind, fact.relation, fact.language)
        if len(values) > 1:
            rng = stream(truth.dials.seed, f"cloze/{fact.number}/{fact.relation}/{fact.language}")
            fillers = choose_fillers(list(values), fact.right, num_fillers, rng)
            for group in (BEFORE, AFTER):
                yield _item(fact, group, fillers, [values[filler] for filler in fillers], corpus, rng)


def _item(fact: Fact, group: str, fillers: list[str], counts: list[int], corpus: str, rng: Random) -> Item:
    """A sentence that names its owner on the side that `group` says."""
    side = (BEFORE, AFTER).index(group)
    templates = [one for one in NAMED[fact.relation][fact.language] if "{n}" in sides(one, fact.relation)[side]]
    template = rng.choice(templates)
    before, gap_fillers, after = with_gap(fact, template, fillers)
    told = before + gap_fillers[fillers.index(fact.right)] + after
    return Item(
        id=f"{group}/{fact.relation}/{fact.language}/{fact.number}",
        lang=fact.language,
        group=group,
        before=before,
        fillers=gap_fillers,
        after=after,
        right=fillers.index(fact.right),
        subject=str(fact.number),
        counts=counts,
        seen=told in corpus,
    )
