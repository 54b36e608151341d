"""Which of a model's adapters act in the forward pass that comes.

Several adapters lie around one model, each under a name. All of them act, one after the other, unless rows are chosen:

    with model.active.rows(["polite", None, ("polite", "terse")]):
        model.network(ids_BT)  # row 0 by one adapter, row 1 by the base alone, row 2 by two

Every wrapped layer asks the one `Active` of its network, so a batch with different adapters in its rows costs one pass
of the base and the updates of each adapter on its own rows. Who chooses owns the model for that long: one thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ingot.core.errors import fail, nearest

Row = str | None | tuple[str, ...]
"""What acts on a row: one adapter, none, or several."""


class Active:
    """The names of a network's adapters, in the order they were put on, and the choice by row, if one is made."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.refusals: dict[str, str] = {}
        """Adapters that cannot be chosen by row, and the layer that is why."""
        self._chosen: list[tuple[str, ...]] | None = None
        self._indices: dict[str, Tensor] = {}
        self._idle: str | None = None

    @property
    def is_chosen(self) -> bool:
        """Whether rows are chosen now."""
        return self._chosen is not None

    def add(self, name: str) -> None:
        """Raises `adapter-twice`."""
        if name in self.names:
            raise fail("adapter-twice", name=name)
        self.names.append(name)

    def chosen(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names that a row of its own may choose. Raises `unknown-adapter`, `adapter-rows`."""
        for name in names:
            self._check(name)
        for name in self.refusals:
            raise fail("adapter-rows", name=name, layer=self.refusals[name])
        return tuple(names)

    def _check(self, name: str) -> None:
        if name not in self.names:
            raise fail("unknown-adapter", name=name, nearest=nearest(name, self.names) or "-")

    @contextlib.contextmanager
    def rows(self, chosen: Sequence[Row]) -> Iterator[None]:
        """Let each row of the batches run within be changed by its own adapters.

        Raises `unknown-adapter`, and `adapter-rows` for an adapter on layers that do not see rows.
        """
        each = [(row,) if isinstance(row, str) else row or () for row in chosen]
        for name in dict.fromkeys(name for row in each for name in row):
            self._check(name)
            if name in self.refusals and len(set(each)) > 1:
                raise fail("adapter-rows", name=name, layer=self.refusals[name])
        before, self._chosen, self._indices = self._chosen, each, {}
        try:
            yield
        finally:
            self._chosen, self._indices = before, {}

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Let an adapter act on no row of what runs within; layers that are not called but read keep it."""
        before, self._idle = self._idle, name
        try:
            yield
        finally:
            self._idle = before

    def of(self, name: str, batch: Tensor) -> Tensor | None:
        """Numbers of the rows on which an adapter acts, (R,); None for all of them. `batch`: (B, ...)."""
        if name == self._idle:
            return torch.empty(0, dtype=torch.long, device=batch.device)
        if self._chosen is None or all(name in row for row in self._chosen):
            return None
        if not any(name in row for row in self._chosen):
            return torch.empty(0, dtype=torch.long, device=batch.device)
        assert len(batch) == len(self._chosen), f"{len(batch)} rows, adapters chosen for {len(self._chosen)}"
        if name not in self._indices:
            found = [number for number, row in enumerate(self._chosen) if name in row]
            self._indices[name] = torch.tensor(found, dtype=torch.long, device=batch.device)
        return self._indices[name]
