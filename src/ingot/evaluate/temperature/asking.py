"""Samples of every question at every temperature, written down as they come, so that a stopped run can go on.

The n-th sample of a question is drawn with the same random numbers at all temperatures, so that temperatures differ by
nothing but themselves. The most likely token (temperature 0) is asked once: every further sample would be the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.files import write_file
from ingot.core.language import text
from ingot.core.model_dir import read_json
from ingot.core.progress import progress
from ingot.evaluate.task import Row, dump_rows
from ingot.evaluate.temperature.items import Item
from ingot.infer.engine import Engine
from ingot.infer.likelihood import Query, query_entropies
from ingot.infer.options import Sampling
from ingot.infer.prompts import Asked
from ingot.infer.sequence import Sequence as Running

AT_ONCE = 64
"""Samples whose entropies are computed together, and which are lost at most when a run is stopped."""


class Job(NamedTuple):
    """One sample to draw."""

    item: int
    temperature: float
    sample: int


@dataclass(frozen=True)
class Kept:
    """The folder beside the output where an unfinished run keeps its samples; None keeps nothing."""

    path: Path | None

    @classmethod
    def beside(cls, out: Path | None) -> Kept:
        return cls(None if out is None else out.resolve().parent / f".{out.name}.samples")

    def begin(self, run: dict[str, Any], resume: bool) -> list[Row]:
        """Prepare; what an earlier run left. Raises `temperature-unfinished`, `resume-differs`."""
        if self.path is None:
            return []
        present = (self.path / "run.json").exists()
        if present and not resume:
            raise fail("temperature-unfinished", path=self.path)
        if present:
            self._check_same(run)
            return self._rows()
        self.path.mkdir(parents=True, exist_ok=True)
        write_file(self.path / "run.json", json.dumps(run, indent=2, ensure_ascii=False))
        return []

    def add(self, rows: Sequence[Row]) -> None:
        """Write samples down, all the way to the disk."""
        if self.path is not None:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(dump_rows(rows))
                stream.flush()
                os.fsync(stream.fileno())

    def remove(self) -> None:
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def _file(self) -> Path:
        assert self.path is not None
        return self.path / "samples.jsonl"

    def _check_same(self, run: dict[str, Any]) -> None:
        assert self.path is not None
        before = read_json(self.path / "run.json")
        for key in sorted(before.keys() | run.keys()):
            if before.get(key) != run.get(key):
                details = {"found": repr(run.get(key)), "expected": repr(before.get(key))}
                raise fail("resume-differs", path=self.path, key=key, **details)

    def _rows(self) -> list[Row]:
        """All whole lines; a last one that was cut goes."""
        if not self._file.exists():
            return []
        whole = self._file.read_bytes().rpartition(b"\n")
        os.truncate(self._file, len(whole[0]) + len(whole[1]))
        return [json.loads(line) for line in whole[0].splitlines()]


def jobs(num_items: int, grid: Sequence[float], samples: int) -> Iterator[Job]:
    """All samples of a question together, so that its prompt is read once."""
    for item in range(num_items):
        for temperature in grid:
            for sample in range(1 if temperature == 0 else samples):
                yield Job(item, temperature, sample)


def seed_of(seed: int, item: Item, sample: int) -> int:
    """Of the n-th sample of a question, the same at every temperature."""
    digest = hashlib.blake2b(f"{seed}\0{item.id}\0{sample}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def ask(
    model: LanguageModel,
    items: Sequence[Item],
    prompts: Sequence[Asked],
    wanted: Sequence[Job],
    sampling: Callable[[Job], Sampling],
    slots: int,
    keep: Callable[[list[Row]], None],
) -> list[Row]:
    """Draw all that is wanted, one row a sample. `keep` is handed the rows as they come."""
    engine, rows, ended = Engine(model, slots), list[Row](), list[tuple[Job, Running]]()
    waiting, asked = iter(wanted), dict[object, Job]()
    with progress(text("temperature-asking", model=model.name), len(wanted)) as advance:
        while True:
            while engine.num_waiting < slots and (job := next(waiting, None)) is not None:
                asked[engine.submit(prompts[job.item], sampling(job)).id] = job
            if not engine.has_work:
                break
            for event in engine.step():
                if event.finish_reason is not None:
                    ended.append((asked.pop(event.sequence.id), event.sequence))
            if len(ended) >= AT_ONCE:
                rows += _rows(model, items, ended, keep)
                ended = []
            advance(len(rows) + len(ended))
        return rows + _rows(model, items, ended, keep)


def _rows(
    model: LanguageModel,
    items: Sequence[Item],
    ended: Sequence[tuple[Job, Running]],
    keep: Callable[[list[Row]], None],
) -> list[Row]:
    entropies = _entropies(model, ended)
    rows = [
        {"id": items[job.item].id, "temperature": job.temperature, "sample": job.sample, "seed": running.seed,
         "reply": running.text, "tokens": len(running.tokens), "finish_reason": running.finish_reason,
         "entropy": entropy}
        for (job, running), entropy in zip(ended, entropies, strict=True)
    ]  # fmt: skip
    keep(rows)
    return rows


def _entropies(model: LanguageModel, ended: Sequence[tuple[Job, Running]]) -> list[float]:
    """Mean entropy a token of each sample, at the temperature it was drawn with, nats; 0 at temperature 0."""
    warm = [place for place, (job, _) in enumerate(ended) if job.temperature > 0]
    queries = [_query(ended[place][1]) for place in warm]
    found = query_entropies(model, queries, [ended[place][0].temperature for place in warm])
    means = dict(zip(warm, (float(one.double().mean()) for one in found), strict=True))
    return [means.get(place, 0.0) for place in range(len(ended))]


def _query(running: Running) -> Query:
    """Every token of an answer, from what stands before it."""
    begin, ids = len(running.start.ids), [*running.start.ids, *running.tokens]
    places = tuple(range(begin - 1, len(ids) - 1))
    return Query(tuple(ids[:-1]), places, tuple(running.tokens), running.start.source)
