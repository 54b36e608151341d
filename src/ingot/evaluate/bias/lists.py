"""The word lists of suite `weat`, read and checked."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ingot.evaluate.bias.own import Entry, Lang, Name, read_own, shipped


class WordTest(Entry):
    """Two lists that are compared, x and y, as long as each other, and two that they are compared by."""

    id: str = Field(pattern=r"^[^\s.]+$")
    lang: Lang
    name: Name
    source: str = Field(min_length=1)
    control: bool = False
    x: list[str] = Field(min_length=2)
    y: list[str] = Field(min_length=2)
    a: list[str] = Field(min_length=2)
    b: list[str] = Field(min_length=2)

    @property
    def sides(self) -> dict[str, list[str]]:
        return {"x": self.x, "y": self.y, "a": self.a, "b": self.b}


class Lists(Entry):
    """`sentences`: for each language the sentence a word is read in."""

    sentences: dict[Lang, str]
    tests: list[WordTest] = Field(min_length=1)


def read_lists(path: Path | None) -> Lists:
    """Those given, else those shipped. Raises `bias-unequal-lists`, `bias-word-twice`, `bias-missing-slot` and what
    `read_own` raises."""
    lists, place = read_own(Lists, path or shipped("weat.yaml"))
    for lang, sentence in lists.sentences.items():
        if "{word}" not in sentence:
            raise place.fail("bias-missing-slot", "sentences", lang, slot="{word}", found=sentence)
    seen: set[str] = set()
    for at, test in enumerate(lists.tests):
        if test.id in seen:
            raise place.fail("bias-twice", "tests", at, "id", name=test.id)
        seen.add(test.id)
        if test.lang not in lists.sentences:
            raise place.fail("bias-missing-slot", "tests", at, "lang", slot="{word}", found=f"sentences.{test.lang}")
        if len(test.x) != len(test.y):
            raise place.fail("bias-unequal-lists", "tests", at, "y", test=test.id, x=len(test.x), y=len(test.y))
        for side, words in test.sides.items():
            if len(set(words)) != len(words):
                twice = next(word for word in words if words.count(word) > 1)
                raise place.fail("bias-word-twice", "tests", at, side, test=test.id, side=side, word=twice)
    return lists
