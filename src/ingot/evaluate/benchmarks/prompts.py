"""From documents to what a model is asked: the examples, the question, the choices, and a hash of it all.

As lm-eval builds it: preamble, then each example as its question, the delimiter and its answer, joined by the
separator, then the question. What is scored is the delimiter and a choice. The parts are kept too, for models that are
asked in a conversation (`chat.py`). The examples of a document depend on its id and the seed alone, or are the first of
its group, or stand in a file; `stream` draws them as lm-eval does, one generator along all documents in order, where
each draw depends on all before it.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from ingot.core.errors import IngotError, fail
from ingot.data.files import read_lines
from ingot.evaluate.benchmarks.documents import Document, Found
from ingot.evaluate.benchmarks.spec import Spec
from ingot.evaluate.benchmarks.templates import ERRORS, evaluate, render

LM_EVAL_SEED = 1234
"""Of lm-eval's examples."""


@dataclass(frozen=True)
class Parts:
    """What a prompt is made of. examples: questions and answers; choices: what is scored, without a delimiter."""

    preamble: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One document as it is asked. before: what stands before the question; is_fixed: the same for its whole group;
    questions: one for all choices, or one each; continuations: what is scored behind it; shots: ids of the examples."""

    document: Document
    before: str
    is_fixed: bool
    questions: tuple[str, ...]
    continuations: tuple[str, ...]
    target: str
    shots: tuple[str, ...] = ()
    parts: Parts = Parts()

    @property
    def id(self) -> str:
        return self.document.id

    def context(self, choice: int) -> str:
        """All that stands before what is scored of a choice, or before an answer."""
        return self.before + self.question(choice)

    def question(self, choice: int) -> str:
        return self.questions[choice if len(self.questions) > 1 else 0]

    @cached_property
    def hash(self) -> str:
        """Of the plain prompt and what may follow, 16 digits."""
        return self.hash_of("off")

    def hash_of(self, style: str) -> str:
        """Of what a model is asked when it is asked in this style, whatever its chat template writes around it."""
        if style == "off":
            content: list[object] = [self.before, *self.questions, "", *self.continuations]
        else:
            content = [style, self.before, self.parts.preamble, self.parts.examples, *self.questions, "",
                       *self.parts.choices]  # fmt: skip
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def make_items(spec: Spec, found: Found, asked: Sequence[Document], shots: int, seed: int, stream: bool) -> list[Item]:
    """What is asked of `asked`. Raises `bench-few-shots`, `bench-bad-prompt`."""
    if spec.shots.rule == "first" and shots:
        chosen = _first_shots(spec, found, asked, shots)
    elif shots:
        chosen = (_streamed if stream else _by_document)(spec, found, asked, shots, seed)
    else:
        chosen = iter([()] * len(asked))
    make = _Maker(spec, found.folder, is_fixed=shots == 0 or spec.shots.rule == "first")
    items = []
    for document, examples in zip(asked, chosen, strict=True):
        try:
            items.append(make.item(document, examples))
        except IngotError:
            raise
        except ERRORS as error:
            raise fail("bench-bad-prompt", task=spec.name, id=document.id, reason=str(error)) from None
    return items


@dataclass(frozen=True)
class _Solved:
    """An example: its id, and what is asked and answered."""

    id: str
    question: str
    answer: str


class _Maker:
    """Makes the items of a task; what several share is made once."""

    def __init__(self, spec: Spec, folder: Path, is_fixed: bool) -> None:
        self.spec, self.folder, self.is_fixed = spec, folder, is_fixed
        self._solved = lru_cache(maxsize=None)(self._solve)
        self._filed = lru_cache(maxsize=None)(self._from_file)

    def item(self, document: Document, shots: Sequence[Document]) -> Item:
        spec, fields = self.spec, document.fields
        if spec.preamble_file is None:
            preamble, examples = render(spec.preamble, fields), [self._solved(each) for each in shots]
        else:
            preamble, examples = self._filed(render(spec.preamble_file, fields))
        if spec.contexts is not None:
            questions = tuple(map(str, evaluate(spec.contexts, fields)))
            choices = (_continuation(spec, document),) * len(document.choices)
        else:
            questions, choices = (render(spec.prompt, fields),), document.choices
        before = preamble + "".join(each.question + spec.delimiter + each.answer + spec.separator for each in examples)
        parts = Parts(preamble, tuple((each.question, each.answer) for each in examples), choices)
        continuations = tuple(spec.delimiter + each for each in choices)
        ids = tuple(each.id for each in examples)
        return Item(document, before, self.is_fixed, questions, continuations, _target(spec, document), ids, parts)

    def _solve(self, document: Document) -> _Solved:
        spec = self.spec
        if spec.contexts is None:
            return _Solved(document.id, render(spec.prompt, document.fields), _target(spec, document))
        question = str(evaluate(spec.contexts, document.fields)[document.gold[0]])
        return _Solved(document.id, question, _continuation(spec, document))

    def _from_file(self, name: str) -> tuple[str, list[_Solved]]:
        """What a preamble file holds: what comes before its first example, and the examples, written anew as those of
        other tasks are; without a pattern of examples all is preamble."""
        spec, path = self.spec, self.folder / name
        if not path.is_file():
            raise fail("no-such-file", path=path)
        text = "".join(read_lines(path))
        text = text.partition(spec.preamble_after)[2] if spec.preamble_after else text
        if spec.preamble_example is None:
            return text + spec.separator, []
        found = list(re.finditer(spec.preamble_example, text))
        if not found:
            raise ValueError(f"{name} holds no example of the form {spec.preamble_example!r}")
        assert spec.target is not None
        return text[: found[0].start()], [
            _Solved(f"{name}#{number}", render(spec.prompt, each.groupdict()), render(spec.target, each.groupdict()))
            for number, each in enumerate(found, start=1)
        ]


def _continuation(spec: Spec, document: Document) -> str:
    assert spec.continuation is not None
    return render(spec.continuation, document.fields)


def _target(spec: Spec, document: Document) -> str:
    if spec.target is not None:
        return render(spec.target, document.fields)
    return document.choices[document.gold[0]] if document.gold else ""


def _pools(spec: Spec, found: Found) -> dict[str, list[Document]]:
    """Documents that may be examples, by group."""
    pools: dict[str, list[Document]] = defaultdict(list)
    for document in found.asked if spec.shots.source == "asked" else found.shots:
        pools[document.group].append(document)
    return pools


def _pool(spec: Spec, pools: dict[str, list[Document]], document: Document, count: int) -> list[Document]:
    pool = pools[document.group]
    if len(pool) - (spec.shots.source == "asked") < count:
        raise fail("bench-few-shots", task=spec.name, group=document.group or "-", found=len(pool), count=count)
    return pool


def _first_shots(spec: Spec, found: Found, asked: Sequence[Document], count: int) -> Iterator[tuple[Document, ...]]:
    """The first of each group."""
    pools = _pools(spec, found)
    for document in asked:
        pool = _pool(spec, pools, document, count)
        if spec.shots.source == "asked":
            pool = [other for other in pool[: count + 1] if other.id != document.id]
        yield tuple(pool[:count])


def _by_document(
    spec: Spec, found: Found, asked: Sequence[Document], count: int, seed: int
) -> Iterator[tuple[Document, ...]]:
    """Drawn by the document's id and the seed alone, from the pool in the order of its ids."""
    pools = {group: sorted(pool, key=lambda one: one.id) for group, pool in _pools(spec, found).items()}
    for document in asked:
        pool = _pool(spec, pools, document, count)
        drawn = random.Random(f"{seed}\0{document.id}").sample(pool, min(count + 1, len(pool)))
        yield tuple([other for other in drawn if other is not document][:count])


def _streamed(
    spec: Spec, found: Found, asked: Sequence[Document], count: int, seed: int
) -> Iterator[tuple[Document, ...]]:
    """As lm-eval 0.4.13 draws: one generator for each group, one more where the document itself may be drawn."""
    pools, streams = _pools(spec, found), dict[str, random.Random]()
    for document in asked:
        pool = _pool(spec, pools, document, count)
        stream = streams.setdefault(document.group, random.Random(LM_EVAL_SEED))
        spare = int(spec.shots.source == "asked" or spec.shots.spare)
        drawn = [each for each in stream.sample(pool, count + spare) if each is not document]
        yield tuple(drawn[:count])
