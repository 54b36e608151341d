"""The truth table of a world read back, and its facts told with a gap where the value stands.

A gap has fillers: the right value among others of the same fact, near in length. Sorted by bytes they are neighbours
among which the place of the right one is drawn, so that its length gives nothing away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pydantic import BaseModel, ValidationError, model_validator

from ingot.core.errors import fail
from ingot.data.world.entities import Entity
from ingot.data.world.sentences import NAMED
from ingot.data.world.telling import fill
from ingot.data.world.words import Language

NAME = "truth.json"


class Dials(BaseModel):
    """The seed that made the world also draws what is asked about it."""

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


def facts(truth: Truth) -> Iterator[Fact]:
    """Every fact in every language, in the order of the truth table."""
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


def with_gap(fact: Fact, template: str, fillers: list[str]) -> tuple[str, list[str], str]:
    """A sentence about a fact as what stands before its value, the fillers as they would stand there, and the rest."""
    before, after = (part.format(n=fact.entity.name[fact.language]) for part in sides(template, fact.relation))
    right = fillers.index(fact.right)
    fillers = fillers if before else [capital(filler) for filler in fillers]
    before = capital(before)
    told = before + fillers[right] + after
    assert told == fill(template, fact.entity, fact.language), "the sentence is not as the world tells it"
    return before, fillers, after


def capital(text: str) -> str:
    """The text with its first letter large, as a sentence begins."""
    return text[:1].upper() + text[1:]
