"""Counting the words of streamed text in bounded memory: the same counts for any number of processes.

Texts are put into batches of about BATCH characters; each is counted by itself, in this process or in helpers, and the
counts are added in the order of the batches. When more than `limit` distinct words are held, those seen once are
forgotten, then those seen twice, and so on (lossy counting, Manku and Motwani 2002), and what was forgotten is told.
Python's integers do not overflow.

Helpers are plain child processes that read JSON lines and answer with JSON lines: unlike multiprocessing they ask
nothing of the program that calls us, and nothing is pickled.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import orjson

from ingot.text.split import Splitter, is_settled

BATCH = 4_000_000
"""Characters counted at once; below one batch no helper is started."""
BEFORE_SPACE = re.compile(r"(?=[ ]\S)(?<=\S)")
"""Where every pattern that words are counted with has a border: no word runs on into a space that stands alone."""
MAX_WORDS = 2_000_000
"""Distinct words held: about 400 MB."""


@dataclass
class Counts:
    """How often each word occurs; `total` occurrences were seen, of which `forgotten` are no longer in `words`."""

    words: Counter[str] = field(default_factory=Counter)
    total: int = 0
    forgotten: int = 0

    def add(self, counted: dict[str, int], limit: int) -> None:
        """Add one batch, and forget the rarest words while there are too many."""
        self.words.update(counted)
        self.total += sum(counted.values())
        rare = 0
        while len(self.words) > limit:
            rare += 1
            kept = Counter({word: count for word, count in self.words.items() if count > rare})
            self.forgotten += sum(count for count in self.words.values() if count <= rare)
            self.words = kept

    @property
    def numbers(self) -> dict[str, int | float]:
        """For the hallmark: occurrences, distinct words, and the share of occurrences that was forgotten."""
        share = self.forgotten / self.total if self.total else 0.0
        return {"words": self.total, "distinct_words": len(self.words), "forgotten_share": round(share, 4)}


def count_words(texts: Iterable[list[str]], pattern: str, threads: int = 1, limit: int = MAX_WORDS) -> Counts:
    """Count the words that `pattern` cuts from batches of texts, with as many helper processes as threads."""
    found = Counts()
    with contextlib.ExitStack() as stack:
        for counted in _counted(_batches(texts), pattern, threads, stack):
            found.add(counted, limit)
    return found


def count_batch(texts: list[str], splitter: Splitter) -> Counter[str]:
    """The words of some texts.

    Most text repeats itself between spaces, so it is cut before single spaces first and only what differs goes through
    the pattern: what occurs once in one go, what occurs twice in another, and so on.
    """
    settled = is_settled("".join(texts))
    cut = splitter.cut_settled if settled else splitter.cut
    together: defaultdict[int, list[str]] = defaultdict(list)
    alone: defaultdict[int, list[str]] = defaultdict(list)
    for piece, times in Counter(chain.from_iterable(map(BEFORE_SPACE.split, texts))).items():
        joins = piece[:1] == " " and not piece[-1].isspace() and (settled or is_settled(piece))
        (together if joins else alone)[times].append(piece)
    counted: Counter[str] = Counter()
    for times, pieces in together.items():
        _add(counted, cut("".join(pieces)), times)
    for times, pieces in alone.items():
        _add(counted, chain.from_iterable(map(cut, pieces)), times)
    return counted


def _add(counted: Counter[str], words: Iterable[str], times: int) -> None:
    if times == 1:
        counted.update(words)
    else:
        for word in words:
            counted[word] += times


def _batches(texts: Iterable[list[str]]) -> Iterator[list[str]]:
    """The texts in batches of about BATCH characters, whatever batches they came in."""
    batch: list[str] = []
    size = 0
    for given in texts:
        for text in given:
            batch.append(text)
            size += len(text)
            if size >= BATCH:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _counted(
    batches: Iterator[list[str]], pattern: str, threads: int, stack: contextlib.ExitStack
) -> Iterator[dict[str, int]]:
    """The counts of each batch, in order. The second batch starts the helpers, if more than one thread is wanted."""
    splitter = Splitter(pattern)
    first, second = next(batches, None), next(batches, None)
    if threads < 2 or second is None:
        yield from (count_batch(batch, splitter) for batch in [first, second] if batch)
        yield from (count_batch(batch, splitter) for batch in batches)
        return
    helpers = [stack.enter_context(Helper(pattern)) for _ in range(threads)]
    busy: deque[Helper] = deque()
    for number, batch in enumerate(_chain(first, second, batches)):
        if len(busy) == threads:
            yield busy.popleft().receive()
        helpers[number % threads].send(batch)
        busy.append(helpers[number % threads])
    yield from (helper.receive() for helper in busy)


def _chain(first: list[str] | None, second: list[str], rest: Iterator[list[str]]) -> Iterator[list[str]]:
    yield from (batch for batch in (first, second) if batch)
    yield from rest


class Helper:
    """A child process that counts: `send` a batch, do something else, `receive` its counts."""

    def __init__(self, pattern: str) -> None:
        command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        self._write(pattern)

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: object) -> None:
        """Also when counting was broken off: the child ends when it has nothing more to read."""
        self._process.kill()
        self._process.communicate()

    def send(self, texts: list[str]) -> None:
        self._write(texts)

    def receive(self) -> dict[str, int]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"the process that counts words ended with code {self._process.wait()}")
        counted: dict[str, int] = orjson.loads(line)
        return counted

    def _write(self, message: object) -> None:
        assert self._process.stdin
        self._process.stdin.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
        self._process.stdin.flush()


def serve() -> None:
    """The child's side: a pattern, then batches, one JSON line each; answers with counts."""
    splitter = Splitter(orjson.loads(sys.stdin.buffer.readline()))
    for line in sys.stdin.buffer:
        counted = count_batch(orjson.loads(line), splitter)
        sys.stdout.buffer.write(orjson.dumps(counted, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
