"""From documents to what a model is asked: the examples, the question, the choices, and a hash of it all.

As lm-eval builds it: preamble, then each example as its question, the delimiter and its answer, joined by the
separator, then the question. What is scored is the delimiter and a choice. The examples of a document depend on its id
and the seed alone, or are the first of its group; `stream` draws them as lm-eval does, one generator along all
documents in order, where each draw depends on all before it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from ingot.core.errors import fail
from ingot.data.files import read_lines
from ingot.evaluate.benchmarks.documents import Document, Found
from ingot.evaluate.benchmarks.spec import Spec
from ingot.evaluate.benchmarks.templates import ERRORS, evaluate, render

LM_EVAL_SEED = 1234
"""Of lm-eval's examples."""


@dataclass(frozen=True)
class Item:
    """One document as it is asked. before: what stands before the question; is_fixed: the same for its whole group;
    questions: one for all choices, or one each; continuations: what is scored behind it."""

    document: Document
    before: str
    is_fixed: bool
    questions: tuple[str, ...]
    continuations: tuple[str, ...]
    target: str
    shots: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.document.id

    def context(self, choice: int) -> str:
        """All that stands before what is scored of a choice, or before an answer."""
        return self.before + self.questions[choice if len(self.questions) > 1 else 0]

    @cached_property
    def hash(self) -> str:
        """Of the prompt and what may follow, 16 digits."""
        content = [self.before, *self.questions, "", *self.continuations]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def make_items(spec: Spec, found: Found, asked: Sequence[Document], shots: int, seed: int, stream: bool) -> list[Item]:
    """What is asked of `asked`. Raises `bench-few-shots`, `bench-bad-prompt`."""
    if spec.shots.rule == "first" and shots:
        chosen = _first_shots(spec, found, asked, shots)
    elif shots:
        chosen = (_streamed if stream else _by_document)(spec, found, asked, shots, seed)
    else:
        chosen = iter([()] * len(asked))
    is_fixed = shots == 0 or spec.shots.rule == "first"
    solved = lru_cache(maxsize=None)(
        lambda *examples: "".join(_example(spec, each) + spec.separator for each in examples)
    )
    items = []
    for document, examples in zip(asked, chosen, strict=True):
        try:
            before = _preamble(spec, found.folder, document) + solved(*examples)
            items.append(_item(spec, document, before, is_fixed, examples))
        except ERRORS as error:
            raise fail("bench-bad-prompt", task=spec.name, id=document.id, reason=str(error)) from None
    return items


def _item(spec: Spec, document: Document, before: str, is_fixed: bool, examples: Sequence[Document]) -> Item:
    shots = tuple(example.id for example in examples)
    fields = document.fields
    if spec.output != "choice":
        return Item(document, before, is_fixed, (render(spec.prompt, fields),), (), _target(spec, document), shots)
    if spec.contexts is not None:
        questions = tuple(map(str, evaluate(spec.contexts, fields)))
        scored = [_continuation(spec, document)] * len(document.choices)
    else:
        questions, scored = (render(spec.prompt, fields),), list(document.choices)
    continuations = tuple(spec.delimiter + each for each in scored)
    return Item(document, before, is_fixed, questions, continuations, _target(spec, document), shots)


def _preamble(spec: Spec, folder: Path, document: Document) -> str:
    """What stands before the examples."""
    if spec.preamble_file is None:
        return render(spec.preamble, document.fields)
    path = folder / render(spec.preamble_file, document.fields)
    if not path.is_file():
        raise fail("no-such-file", path=path)
    text = _read(path)
    return text.partition(spec.preamble_after)[2] + spec.separator if spec.preamble_after else text + spec.separator


@lru_cache(maxsize=64)
def _read(path: Path) -> str:
    return "".join(read_lines(path))


def _example(spec: Spec, document: Document) -> str:
    """A solved document."""
    if spec.contexts is None:
        return render(spec.prompt, document.fields) + spec.delimiter + _target(spec, document)
    question = str(evaluate(spec.contexts, document.fields)[document.gold[0]])
    return question + spec.delimiter + _continuation(spec, document)


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
