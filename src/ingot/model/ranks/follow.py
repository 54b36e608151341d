"""A process that is not the first: `python -m ingot.model.ranks.follow DIR RANK SIZE PORT DTYPE DEVICE THREADS`.

It loads its slices and does what the first process tells it, until that one ends: then its connections close, and so
does this process.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch

from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.model.cache import HeldRows, KVCache, in_line
from ingot.model.decoder import Decoder
from ingot.model.place.layout import Layout
from ingot.model.ranks.group import C10D, Group, Message
from ingot.model.ranks.network import check_split, connect, head_slice, load_slices

PASS, HEAD, CACHE, COPY, DROP = range(5)
"""Orders: a forward pass, logits, a new cache, places of a cache copied, a cache let go."""

DTYPES = (torch.float32, torch.bfloat16, torch.int8, torch.float16, torch.float64)
"""By their number in orders."""

NONE = -1
"""No cache, no bound on layers."""

PARAMETERS = inspect.signature(Decoder.forward)
SENT = [name for name in PARAMETERS.parameters if name not in ("self", "rows", "layers", "taps")]
"""What a pass is given that is sent as it is, tensors: all but rows and layers, sent as numbers and places, and taps,
which the first process fills."""


class Follower:
    """A process's slices, and its part of every cache."""

    def __init__(self, network: Decoder, group: Group) -> None:
        self.network, self.group = network, group
        self.device = network.embedding.weight.device
        self.caches: dict[int, KVCache] = {}
        self.acts: dict[int, Callable[[Message], None]] = {
            PASS: self._pass, HEAD: self._head, CACHE: self._cache, COPY: self._copy, DROP: self._drop,
        }  # fmt: skip

    @torch.inference_mode()
    def run(self) -> None:
        """Follow until the first process is gone (RuntimeError)."""
        while True:
            message = self.group.receive(self.device)
            self.acts[message.kind](message)

    def _pass(self, message: Message) -> None:
        cache, length, layers = message.numbers
        *sent, places, new, at = message.tensors
        given: dict[str, Any] = dict(zip(SENT, sent, strict=True))
        if given["prefix_BT"] is not None:
            given["prefix_BT"] = given["prefix_BT"].bool()  # orders have whole numbers only
        rows = None
        if cache != NONE:
            assert places is not None
            assert new is not None
            assert at is not None
            rows = HeldRows(self.caches[cache], in_line(places), new, at, length)
        self.network(**given, rows=rows, layers=None if layers == NONE else layers)

    def _head(self, message: Message) -> None:
        rows, width = message.numbers
        hidden_RC = torch.zeros(rows, width, device=self.device)
        self.group.spread(hidden_RC)
        head_slice(self.network, self.group, hidden_RC.to(self.network.dtype))

    def _cache(self, message: Message) -> None:
        number, tokens, dtype = message.numbers
        self.caches[number] = KVCache(self.network.config, tokens, self.device, DTYPES[dtype])

    def _copy(self, message: Message) -> None:
        number, source, target, count = message.numbers
        self.caches[number].copy(slice(source, source + count), slice(target, target + count))

    def _drop(self, message: Message) -> None:
        del self.caches[message.numbers[0]]


def main(path: str, rank: int, size: int, port: int, dtype: str, device: str, threads: int) -> None:
    store = C10D.TCPStore("127.0.0.1", port, None, False)
    torch.set_num_threads(threads)
    layout = Layout.of(ModelDir.open(path))
    held = None if dtype == "None" else getattr(torch, dtype.removeprefix("torch."))
    network = load_slices(layout, check_split(layout, size), rank, held, torch.device(device))
    store.set(f"ready-{rank}", "")
    group = Group(store, rank, size)
    connect(network, group)
    Follower(network, group).run()


if __name__ == "__main__":
    path, rank, size, port, dtype, device, threads = sys.argv[1:]
    try:
        main(path, int(rank), int(size), int(port), dtype, device, int(threads))
    except IngotError as error:
        sys.exit(str(error))
    except RuntimeError as error:
        # the first process has ended, or waits no longer: there is nobody to tell but whoever reads the log
        sys.exit(f"rank {rank}: {str(error).splitlines()[0]}")
