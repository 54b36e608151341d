"""The first process of a split model: it starts the others, tells them what to do, and notices when one is gone.

To all who use it the network is as any other: its forward pass and its head first tell the others, then do their own
part. Caches are made by `Ranks.new_cache`, so that every process has its part of each.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from ingot.core.errors import fail
from ingot.model.cache import KVCache
from ingot.model.decoder import Decoder
from ingot.model.place.layout import Layout
from ingot.model.ranks.follow import CACHE, COPY, DROP, DTYPES, HEAD, NONE, PARAMETERS, PASS, SENT
from ingot.model.ranks.group import C10D, Group, Message
from ingot.model.ranks.network import check_split, connect, head_slice, load_slices

T = TypeVar("T")

LOOK_SECONDS = 0.05
"""How often the first process looks whether the others live while it waits for them to be ready."""

NOTICE_SECONDS = 3.0
"""How long after a lost connection a process is given to be seen dead, so that the error can name it."""

END_SECONDS = 5.0


class Ranks:
    """The other processes of a model, and what they have been told to keep."""

    def __init__(self, layout: Layout, size: int, kind: str, dtype: torch.dtype | None) -> None:
        """Start them and load. Raises `ranks-unsupported`, `ranks-uneven`, `rank-lost`, what `load` raises."""
        self.size, self.lost = size, threading.Event()
        self.dropped: list[int] = []
        self._numbers = itertools.count()
        share_of = check_split(layout, size)
        threads = torch.get_num_threads()
        threads = max(1, threads // size) if kind == "cpu" else threads
        store = C10D.TCPStore("127.0.0.1", 0, None, True, timedelta(hours=1), wait_for_workers=False)
        words = [str(layout.base.path.resolve()), str(size), str(store.port), str(dtype), str(threads)]
        self._processes = [_start(rank, kind, *words) for rank in range(1, size)]
        self._end = weakref.finalize(self, _end, self._processes)
        torch.set_num_threads(threads)
        self.network = load_slices(layout, share_of, 0, dtype, _device(kind, 0))
        self._wait_until_ready(store)
        self.group = Group(store, 0, size)
        connect(self.network, self.group)
        self.network.forward = partial(_pass, weakref.proxy(self))  # type: ignore[method-assign]
        self.network.head = partial(_head, weakref.proxy(self))  # type: ignore[method-assign]
        for process in self._processes:
            threading.Thread(target=_watch, args=(process, self.lost), daemon=True).start()

    def check(self) -> None:
        """Raises `rank-lost` where a process is gone."""
        for rank, process in enumerate(self._processes, 1):
            if process.poll() is not None:
                raise fail("rank-lost", rank=rank, size=self.size, how=_how(process.returncode))

    def together(self, work: Callable[[], T]) -> T:
        """Do something with the others. Raises `rank-lost`."""
        self.check()
        try:
            return work()
        except RuntimeError as error:
            if not self.lost.wait(NOTICE_SECONDS) and "timed out" not in str(error).lower():
                raise
            self.check()
            raise fail("rank-lost", rank="?", size=self.size, how=str(error).splitlines()[0]) from error

    def new_cache(self, num_tokens: int, dtype: torch.dtype) -> KVCache:
        """A cache of which every process has its heads. Those that nobody has any more go first."""
        while self.dropped:
            self.together(partial(self.group.send, Message(DROP, (self.dropped.pop(),))))
        return RanksCache(self, next(self._numbers), num_tokens, dtype)

    def close(self) -> None:
        """End the others."""
        self._end()

    def _wait_until_ready(self, store: Any) -> None:
        for rank in range(1, self.size):
            while not store.check([f"ready-{rank}"]):
                self.check()
                time.sleep(LOOK_SECONDS)


class RanksCache(KVCache):
    """The first process's part of a cache, which tells the others what becomes of theirs."""

    def __init__(self, ranks: Ranks, number: int, num_tokens: int, dtype: torch.dtype) -> None:
        super().__init__(ranks.network.config, num_tokens, ranks.network.embedding.weight.device, dtype)
        self.ranks, self.number = ranks, number
        numbers = (number, num_tokens, DTYPES.index(dtype))
        ranks.together(lambda: ranks.group.send(Message(CACHE, numbers)))
        weakref.finalize(self, ranks.dropped.append, number)

    def copy(self, source: slice, target: slice) -> None:
        numbers = (self.number, source.start, target.start, source.stop - source.start)
        self.ranks.together(lambda: self.ranks.group.send(Message(COPY, numbers)))
        super().copy(source, target)


def _pass(ranks: Ranks, *args: Any, **kwargs: Any) -> Tensor:
    """`Decoder.forward` by all processes; hidden states are whole in each, so taps need nobody else."""
    given = PARAMETERS.bind(ranks.network, *args, **kwargs).arguments
    rows, layers = given.get("rows"), given.get("layers")
    cache, length = NONE, 0
    held: tuple[Tensor | None, ...] = (None, None, None)
    if rows is not None:
        assert isinstance(rows.cache, RanksCache)
        places = rows.places
        if isinstance(places, slice):
            places = torch.arange(places.start, places.stop)[None]
        cache, length, held = rows.cache.number, rows.length, (places, rows.new_BT, rows.positions_BT)
    numbers = (cache, length, NONE if layers is None else layers)

    def work() -> Tensor:
        ranks.group.send(Message(PASS, numbers, (*(given.get(name) for name in SENT), *held)))
        return Decoder.forward(ranks.network, *args, **kwargs)

    return ranks.together(work)


def _head(ranks: Ranks, hidden: Tensor) -> Tensor:
    """`Decoder.head` by all processes."""

    def work() -> Tensor:
        flat_RC = hidden.reshape(-1, hidden.shape[-1])
        ranks.group.send(Message(HEAD, tuple(flat_RC.shape)))
        ranks.group.spread(flat_RC.float().contiguous().clone())
        logits_RV = head_slice(ranks.network, ranks.group, flat_RC)
        assert logits_RV is not None
        return logits_RV.view(*hidden.shape[:-1], -1)

    return ranks.together(work)


def _start(rank: int, kind: str, path: str, size: str, port: str, dtype: str, threads: str) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches the first process alone, which then ends the others."""
    words = [path, str(rank), size, port, dtype, str(_device(kind, rank)), threads]
    command = [sys.executable, "-m", "ingot.model.ranks.follow", *words]
    return subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)  # noqa: S603  (our own module)


def _device(kind: str, rank: int) -> torch.device:
    return torch.device("cuda", rank) if kind == "cuda" else torch.device(kind)


def _watch(process: subprocess.Popen[bytes], lost: threading.Event) -> None:
    process.wait()
    lost.set()


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
