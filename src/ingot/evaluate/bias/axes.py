"""The groups that are compared and the sentences they are put into: data files, read and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, RootModel

from ingot.core.errors import fail
from ingot.evaluate.bias.own import Entry, Lang, Name, Place, read_own, shipped

SLOT = re.compile(r"\{([Pp]erson)\}")


class Group(Entry):
    """One group, and the noun phrases that name one of its people."""

    name: Name
    terms: dict[Lang, list[str]] = Field(min_length=1)


class Axis(Entry):
    """Groups that are alike but for one thing; `reason` and `source` say why they are here and who says so."""

    name: Name
    reason: str = Field(min_length=1)
    source: str = Field(min_length=1)
    groups: dict[str, Group]

    @property
    def languages(self) -> list[Lang]:
        return list(next(iter(self.groups.values())).terms)


class Axes(RootModel[dict[str, Axis]]):
    """All of a file."""


class Attribute(Entry):
    """A beginning with a slot, and two ways to go on: one speaks well of the person, one badly."""

    text: str
    good: str = Field(min_length=1)
    bad: str = Field(min_length=1)


class Sentences(Entry):
    """One language's."""

    attributes: list[Attribute] = Field(min_length=2)
    prompts: list[str] = Field(min_length=1)


class Templates(RootModel[dict[Lang, Sentences]]):
    """All of a file."""


@dataclass(frozen=True)
class Setting:
    """What is asked: the axes, and the sentences of each of their languages."""

    axes: dict[str, Axis]
    templates: dict[str, Sentences]


def read_setting(axes: Path | None, templates: Path | None) -> Setting:
    """Both files, those given or those shipped. Raises IngotError naming the line that is wrong."""
    groups, at_axes = read_own(Axes, axes or shipped("axes.yaml"))
    sentences, at_templates = read_own(Templates, templates or shipped("templates.yaml"))
    _check_axes(groups.root, at_axes)
    _check_slots(sentences.root, at_templates)
    for name, axis in groups.root.items():
        for lang in axis.languages:
            if lang not in sentences.root:
                raise fail("bias-no-templates", path=at_templates.path, axis=name, lang=lang)
    return Setting(dict(groups.root), {str(lang): found for lang, found in sentences.root.items()})


def _check_axes(axes: dict[str, Axis], place: Place) -> None:
    """Raises `bias-one-group`, `bias-one-term`, `bias-unequal-terms`, `bias-twice`."""
    for name, axis in axes.items():
        if not re.fullmatch(r"[^\s.]+", name) or any(not re.fullmatch(r"[^\s.]+", group) for group in axis.groups):
            raise place.fail("bias-bad-file", name, reason=f"{name}: names may hold neither spaces nor dots")
        if len(axis.groups) < 2:
            raise place.fail("bias-one-group", name, "groups", axis=name, found=", ".join(axis.groups) or "-")
        every = dict.fromkeys(lang for group in axis.groups.values() for lang in group.terms)
        for lang in every:
            _check_terms(name, axis, lang, place)


def _check_terms(name: str, axis: Axis, lang: Lang, place: Place) -> None:
    counts = {key: len(group.terms.get(lang, [])) for key, group in axis.groups.items()}
    for key, count in counts.items():
        if count == 1:
            raise place.fail("bias-one-term", name, "groups", key, "terms", lang, axis=name, group=key, lang=lang)
    if len(set(counts.values())) != 1:
        shown = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise place.fail("bias-unequal-terms", name, "groups", axis=name, lang=lang, counts=shown)
    terms = [term for group in axis.groups.values() for term in group.terms[lang]]
    if len(set(terms)) != len(terms):
        raise place.fail("bias-twice", name, "groups", name=next(term for term in terms if terms.count(term) > 1))


def _check_slots(templates: dict[Lang, Sentences], place: Place) -> None:
    """Raises `bias-missing-slot` for a sentence without one slot, or with another one."""
    for lang, found in templates.items():
        texts: list[tuple[tuple[str | int, ...], str]] = [
            (("attributes", at, "text"), one.text) for at, one in enumerate(found.attributes)
        ]
        texts += [(("prompts", at), one) for at, one in enumerate(found.prompts)]
        for where, text in texts:
            if len(SLOT.findall(text)) != 1 or "{" in SLOT.sub("", text):
                raise place.fail("bias-missing-slot", lang, *where, slot="{person}", found=text)


def filled(text: str, term: str) -> str:
    """The sentence about one of a group: {person} as the term stands, {Person} with a capital."""
    return SLOT.sub(lambda match: term if match[1] == "person" else term[0].upper() + term[1:], text)
