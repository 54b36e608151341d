"""Items, studies and a running page that the tests of people's votes share."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.gold import Gold
from ingot.evaluate.people.rubric import DEFAULT
from ingot.evaluate.people.server import links, listen, server_of
from ingot.evaluate.people.store import Ballot, Store
from ingot.evaluate.people.study import Shown, Study
from ingot.evaluate.people.votes import Mode

OPENED: list[Store] = []
"""Stores of studies, for a fixture to close: a driver may warn of connections that are left."""
SYSTEMS = ("alpha-7b", "beta-13b", "gamma")


def items_of(count: int = 6, systems: tuple[str, ...] = SYSTEMS) -> list[Item]:
    return [
        Item(f"item-{n}", f"task {n}?", {s: f"answer {n} by number {k}" for k, s in enumerate(systems)})
        for n in range(count)
    ]


def golds(count: int = 3) -> list[Gold]:
    return [Gold(Item(f"gold:{n}", f"known {n}?", {"x": f"right {n}", "y": f"wrong {n}"}), "x") for n in range(count)]


class Clock:
    """A time that goes on by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def study_of(
    store: Path | str, items: list[Item] | None = None, gold: list[Gold] | None = None, mode: Mode = "pairwise",
    annotators: tuple[str, ...] = ("ana", "ben"), overlap: int = 2, clock: Callable[[], float] | None = None,
) -> Study:  # fmt: skip
    OPENED.append(Store(store if isinstance(store, str) else f"sqlite:///{store}"))
    found = items if items is not None else items_of()
    return Study(found, gold or [], mode, DEFAULT, OPENED[-1], list(annotators), overlap, clock or Clock())


def vote(study: Study, annotator: str, choice: str = "left", **more: Any) -> Shown:
    """Vote on what an annotator sees; returns what it was."""
    shown = study.next(annotator)
    assert shown is not None
    scores = {criterion.name: 3 for criterion in study.rubric.criteria} if choice == "rated" else {}
    study.vote(annotator, Ballot(shown.ticket, choice, more.pop("scores", scores), **more))
    return shown


def vote_all(study: Study, annotator: str, choose: Callable[[Shown], str]) -> int:
    count = 0
    while (shown := study.next(annotator)) is not None:
        study.vote(annotator, Ballot(shown.ticket, choose(shown), {}))
        count += 1
    return count


@contextlib.contextmanager
def page_of(study: Study) -> Iterator[dict[str, str]]:
    """The page on a free port; each annotator's link."""
    with listen("127.0.0.1", 0) as listener:
        server = server_of(study)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield links(study, listener)
        finally:
            server.should_exit = True
            thread.join(10)


def ticket_in(page: str) -> str:
    found = re.search(r'name="ticket" value="([^"]+)"', page)
    assert found is not None, page
    return found[1]


def post(client: httpx.Client, link: str, page: str, choice: str, **more: str) -> httpx.Response:
    return client.post(f"{link}/vote", data={"ticket": ticket_in(page), "choice": choice, "note": "", **more})
