"""Cloze items from a world's truth table and corpus: a true sentence about someone, one fact of it left out.

Every told fact is asked twice in each language, with the same fillers: in a sentence that names its owner before the
gap, and in one that does so after it. What decides is on the left of the first and on the right of the second. The
wrong fillers are values of the same fact of others, near in length: sorted by bytes, the fillers are neighbours among
which the place of the right one is drawn, so that its length gives nothing away. Same world, same items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pydantic import BaseModel, ValidationError, model_validator

from ingot.core.errors import fail
from ingot.data.read import read_documents
from ingot.data.world.entities import Entity
from ingot.data.world.sentences import NAMED
from ingot.data.world.telling import fill
from ingot.data.world.words import Language, stream
from ingot.evaluate.cloze.item import AFTER, BEFORE, Item
from ingot.evaluate.options import EvaluateOptions

NAME = "truth.json"


class Dials(BaseModel):
    """The seed that made the world also draws its items."""

    seed: int


class Truth(BaseModel):
    """What is needed of truth.json."""

    dials: Dials
    languages: list[Language]
    entities: list[Entity]

    @model_validator(mode="after")
    def _known(self) -> Truth:
        if unknown := sorted({relation for entity in self.entities for relation in entity.facts} - NAMED.keys()):
            raise ValueError(f"no sentence tells the fact {unknown[0]!r}")
        return self

    def values(self, kind: str, relation: str, language: Language) -> Counter[str]:
        """Every value of a fact, with how many it is true of."""
        owners = (entity for entity in self.entities if entity.kind == kind and relation in entity.facts)
        return Counter(entity.facts[relation][language] for entity in owners)


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


def read_truth(path: Path) -> Truth:
    """The truth table. Raises `evaluate-bad-truth`."""
    try:
        return Truth.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        raise fail("evaluate-bad-truth", path=path, place=place, reason=problem["msg"]) from None


@dataclass(frozen=True)
class Fact:
    """One fact of one entity, told in one language."""

    number: int
    entity: Entity
    relation: str
    language: Language

    @property
    def right(self) -> str:
        return self.entity.facts[self.relation][self.language]


def make_items(truth: Truth, corpus: str, num_fillers: int) -> Iterator[Item]:
    """Two items for each fact and language, but for facts that are the same for all, which leave no wrong filler."""
    for fact in _facts(truth):
        values = truth.values(fact.entity.kind, fact.relation, fact.language)
        if len(values) > 1:
            rng = stream(truth.dials.seed, f"cloze/{fact.number}/{fact.relation}/{fact.language}")
            fillers = choose_fillers(list(values), fact.right, num_fillers, rng)
            for group in (BEFORE, AFTER):
                yield _item(fact, group, fillers, [values[filler] for filler in fillers], corpus, rng)


def _facts(truth: Truth) -> Iterator[Fact]:
    for number, entity in enumerate(truth.entities):
        for relation in entity.facts:
            for language in truth.languages:
                yield Fact(number, entity, relation, language)


def choose_fillers(values: list[str], right: str, count: int, rng: Random) -> list[str]:
    """The right value among `count` neighbours by bytes (all values, where there are no more), shuffled."""
    ordered = sorted(values, key=lambda value: (len(value.encode()), rng.random()))
    place, count = ordered.index(right), min(count, len(ordered))
    begin = rng.randint(max(0, place - count + 1), min(place, len(ordered) - count))
    return rng.sample(ordered[begin : begin + count], count)


def sides(template: str, relation: str) -> tuple[str, str]:
    """What stands before and behind the value in a template of `sentences`."""
    before, _, after = template.partition(f"{{{relation}}}")
    return before, after


def _item(fact: Fact, group: str, fillers: list[str], counts: list[int], corpus: str, rng: Random) -> Item:
    """A sentence that names its owner on the side that `group` says."""
    side = (BEFORE, AFTER).index(group)
    templates = [one for one in NAMED[fact.relation][fact.language] if "{n}" in sides(one, fact.relation)[side]]
    template = rng.choice(templates)
    before, after = (part.format(n=fact.entity.name[fact.language]) for part in sides(template, fact.relation))
    right = fillers.index(fact.right)
    fillers = fillers if before else [capital(filler) for filler in fillers]
    before = capital(before)
    told = before + fillers[right] + after
    assert told == fill(template, fact.entity, fact.language), "the sentence is not as the world tells it"
    return Item(
        id=f"{group}/{fact.relation}/{fact.language}/{fact.number}",
        lang=fact.language,
        group=group,
        before=before,
        fillers=fillers,
        after=after,
        right=right,
        subject=str(fact.number),
        counts=counts,
        seen=told in corpus,
    )


def capital(text: str) -> str:
    """The text with its first letter large, as a sentence begins."""
    return text[:1].upper() + text[1:]
