"""What adapters put in front of every text: keys and values in each layer (prefixes), or tokens that are no words
(prompts). `Before` is made from the parts of all such adapters and hangs on the network, whose forward pass asks it.

At most one of them acts on a row: two prefixes are two claims on the same first positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.core.errors import fail
from ingot.model.context import Before
from ingot.model.decoder import Decoder
from ingot.model.encoder_decoder import within_segment
from ingot.model.in_front import Front, InFront
from ingot.model.transformer import Transformer


class Part(nn.Module):
    """One adapter's `length` tokens in front."""

    has_ids: ClassVar[bool] = False
    """Whether its tokens stand in the embedding, or are keys and values only."""

    def __init__(self, adapter: str, length: int) -> None:
        super().__init__()
        self.adapter, self.length = adapter, length

    def remembered(self, network: nn.Module, batch: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Keys and values of every layer, each (batch, G, length, D)."""
        raise NotImplementedError

    def begin(self, network: nn.Module, ids: Sequence[int]) -> None:
        """Start from a text, which is cut or repeated to the length."""
        raise NotImplementedError

    def ids(self, device: torch.device) -> Tensor:
        """The ids that stand for its tokens in the embedding, (length,), where it has tokens."""
        raise NotImplementedError

    def paths(self) -> dict[str, str]:
        return {"prompt_embeddings": "prompt_embeddings"}


class BeforeText(InFront):
    """The parts of all adapters that put something in front."""

    def __init__(self, active: Active) -> None:
        super().__init__()
        self.parts, self.active = nn.ModuleList(), active

    @classmethod
    def on(cls, network: nn.Module, active: Active) -> BeforeText:
        """The network's, made when it has none yet."""
        assert isinstance(network, Transformer)
        if network.before is None:
            network.before = cls(active)
        assert isinstance(network.before, cls)
        return network.before

    @property
    def length(self) -> int:
        """Positions that the longest takes from a text."""
        return max(part.length for part in self.each)

    @property
    def total(self) -> int:
        """Tokens of all parts."""
        return sum(part.length for part in self.each)

    @property
    def each(self) -> list[Part]:
        return [part for part in self.parts if isinstance(part, Part)]

    def acting(self, batch: Tensor) -> list[tuple[Part, Tensor | None]]:
        """The parts that act on a batch, with the rows they act on. Raises `adapters-in-front`."""
        found: list[tuple[Part, Tensor | None]] = []
        taken: set[int] = set()
        for part in self.each:
            rows = self.active.of(part.adapter, batch)
            numbers = set(range(len(batch)) if rows is None else rows.tolist())
            if numbers & taken:
                raise fail("adapters-in-front", names=", ".join(part.adapter for part in self.each))
            taken |= numbers
            if numbers:
                found.append((part, rows))
        return found

    def remembered(self, network: nn.Module, batch: Tensor) -> Before | None:
        """Keys and values for a batch; None where nothing acts on it. A decoder's prompts are among them.

        Worked out for one text, the same for all, unless rows have adapters of their own.
        """
        acting = self.acting(batch)
        if not isinstance(network, Decoder):
            acting = [(part, rows) for part, rows in acting if not part.has_ids]
        if not acting:
            return None
        lengths_B = torch.zeros(len(batch), dtype=torch.long, device=batch.device)
        if len(acting) == 1 and acting[0][1] is None:
            part = acting[0][0]
            sides = part.remembered(network, len(batch) if self.active.is_chosen else 1)
            keys, values = ([layer.expand(len(batch), -1, -1, -1) for layer in side] for side in sides)
            return Before(keys, values, lengths_B + part.length)
        width = max(part.length for part, _ in acting)
        sums: list[list[Tensor]] | None = None
        for part, rows in acting:
            assert rows is not None
            lengths_B = lengths_B.index_fill(0, rows, part.length)
            spread = [[_spread(layer, rows, width) for layer in side] for side in part.remembered(network, len(batch))]
            sums = spread if sums is None else [
                [a + b for a, b in zip(*sides, strict=True)] for sides in zip(sums, spread, strict=True)
            ]  # fmt: skip
        assert sums is not None
        return Before(sums[0], sums[1], lengths_B)

    def put(self, ids_BT: Tensor, segments_BT: Tensor | None) -> Front:
        """Tokens in front of every segment of every row, padding (-1) left where it is."""
        segments_BT = torch.zeros_like(ids_BT) if segments_BT is None else segments_BT
        begins_BT = segments_BT >= 0
        begins_BT[:, 1:] &= segments_BT[:, 1:] != segments_BT[:, :-1]
        rank_BT = begins_BT.long().cumsum(1)
        lengths_B1 = ids_BT.new_zeros(len(ids_BT), 1)
        acting = [(part, rows) for part, rows in self.acting(ids_BT) if part.has_ids]
        for part, rows in acting:
            lengths_B1[slice(None) if rows is None else rows] = part.length
        places_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device) + lengths_B1 * rank_BT
        shape = (len(ids_BT), int(places_BT.max()) + 1)
        ids = ids_BT.new_zeros(shape).scatter(1, places_BT, ids_BT)
        segments = segments_BT.new_full(shape, -1).scatter(1, places_BT, segments_BT)
        for part, rows in acting:
            acts_B1 = torch.zeros_like(lengths_B1, dtype=torch.bool)
            acts_B1[slice(None) if rows is None else rows] = True
            row, column = torch.where(begins_BT & acts_B1)
            first = places_BT[row, column] - part.length
            for number, id in enumerate(part.ids(ids.device)):
                ids[row, first + number] = id
                segments[row, first + number] = segments_BT[row, column]
        return Front(ids, within_segment(segments), segments, places_BT)


def _spread(layer: Tensor, rows: Tensor, width: int) -> Tensor:
    """Keys or values (B, G, V, D) of some rows, padded to `width`; the other rows are zero."""
    padded = torch.nn.functional.pad(layer, (0, 0, 0, width - layer.shape[2]))
    return torch.zeros_like(padded).index_copy(0, rows, padded[rows])
