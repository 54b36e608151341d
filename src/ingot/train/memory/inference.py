"""What writing text takes, counted as a step of training is: the network and the cache of `ingot.infer` are run on
tensors that have shapes but no memory, first reading as much of a prompt as is read at once, then writing a token of
every text. Where packed weights run in one call a step, the compiled step says what it works in. The cache holds as
many blocks as these texts fill: that is what the engine's takes of a computer's memory, whose pages are its own once
they were written to.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ingot.infer.blocks import BLOCK, blocks_for
from ingot.infer.capacity import token_bytes
from ingot.infer.engine import PREFILL_TOKENS
from ingot.infer.fused_angles import PIECE
from ingot.infer.sampling.drawing import draw
from ingot.infer.sampling.temperature import scale_temperature
from ingot.model.cache import HeldRows, KVCache, SourceRows
from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.encoder import Encoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.huge_pages import HUGE
from ingot.model.network import make_network
from ingot.model.packed_size import held
from ingot.model.packing import Packer
from ingot.train.memory.packed import fill, fused_room
from ingot.train.memory.rehearsal import Evenly, Storages, plain_positions
from ingot.train.memory.setting import FLOAT, Device

CHECKING = 1.5
"""What is made beside a tensor that has been read, as a share of it, to see whether all of it is finite."""


@dataclass(frozen=True)
class Use:
    """How a model is to write: texts at once, their tokens (prompt and answer; of an encoder-decoder, source and answer
    each), the packed weights it runs on (None: dense), the numbers its keys and values are kept in, and the blocks
    that these may have at most."""

    config: ModelConfig
    slots: int
    length: int
    device: Device = "cpu"
    packer: Packer | None = None
    kv: torch.dtype = torch.float32
    most_blocks: int | None = None

    @property
    def num_blocks(self) -> int:
        """Blocks that texts fill, and one that is nobody's. A card gives the whole window of each at once."""
        room = self.config.max_length if self.device == "cuda" else self.length
        return min(self.slots * blocks_for(room) + 1, self.most_blocks or sys.maxsize)

    @property
    def at_once(self) -> int:
        """Texts that fit into the blocks together."""
        return max(1, min(self.slots, (self.num_blocks - 1) // blocks_for(self.length)))


@dataclass(frozen=True)
class Writing:
    """Bytes: weights, the caches of the texts, and what is alive beside them at the worst moment."""

    weights: float
    cache: float
    work: float


def rehearse_writing(use: Use) -> Writing:
    """An encoder reads one text."""
    room = None if use.packer is None else fused_room(use.packer, _steps(use))
    if use.packer is None or room is None:
        return _by_layer(use)
    tables = sum(2 * FLOAT * int(rope.share * use.config.head_dim / 2) * _whole(use.length, PIECE)
                 for rope in set(use.config.ropes) if rope)  # fmt: skip
    cache = use.num_blocks * BLOCK * token_bytes(use.config, use.kv)
    return Writing(held(use.packer).total, _whole(cache, HUGE), room + tables + _drawing(use))


def _steps(use: Use) -> list[tuple[list[int], list[int]]]:
    """Those that need most of the fused step's memory: prompts' beginnings, a prompt's end, a token of every text."""
    prompts: list[int] = []
    left = PREFILL_TOKENS
    while left > 0 and len(prompts) < use.at_once:
        prompts.append(min(left, use.length))
        left -= prompts[-1]
    width = min(use.length, PREFILL_TOKENS)
    return [(prompts, [0] * len(prompts)), ([width], [use.length - width]),
            ([1] * use.at_once, [use.length - 1] * use.at_once)]  # fmt: skip


def _drawing(use: Use) -> float:
    """What drawing a token of every text makes: logits, and what samplers make of them."""
    with FakeTensorMode(allow_non_fake_inputs=True), Storages() as storages:
        _draw(torch.empty(use.at_once, use.config.vocab_size))
        return storages.peak


def _draw(logits_RV: Tensor) -> None:
    processed_RV = scale_temperature(logits_RV, torch.ones(len(logits_RV), 1))
    draw(processed_RV, torch.zeros(len(logits_RV), dtype=torch.float64))


def _whole(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _by_layer(use: Use) -> Writing:
    """Through the network's modules, as `ingot.infer.runner` does."""
    alone = Evenly(getattr(use.config, "experts", 1))
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), alone, Storages() as storages:
        network = make_network(plain_positions(use.config)).eval()
        largest = max(4.0 * parameter.numel() for parameter in network.parameters())
        if use.packer is not None:
            fill(network, use.packer, "cpu")
        weights = storages.now
        storages.peak = weights + (CHECKING * largest if use.packer is None else 0.0)
        total = weights if use.packer is None else float(held(use.packer).total)
        if isinstance(network, Encoder):
            network.head(network(_ids(1, use.length)))
            return Writing(total, 0.0, storages.peak - weights)
        cache = KVCache(use.config, use.num_blocks * BLOCK, torch.device("cpu"), use.kv)
        sources = _sources(use) if isinstance(network, EncoderDecoder) else None
        cached = storages.now - weights
        _read(network, cache, use.length)
        _write(network, cache, sources, use.at_once, use.length)
        return Writing(total, cached, storages.peak - weights - cached)


def _sources(use: Use) -> KVCache:
    return KVCache(use.config, use.num_blocks * BLOCK, torch.device("cpu"), use.kv)


def _read(network: Decoder | EncoderDecoder, cache: KVCache, length: int) -> None:
    """The end of one prompt; of an encoder-decoder, a whole source."""
    if isinstance(network, EncoderDecoder):
        network(_ids(1, 1), source_ids_BS=_ids(1, length))
        return
    width = min(length, PREFILL_TOKENS)
    positions_BT, rows = _places(cache, 1, length, width)
    network.head(network(_ids(1, width), positions_BT, rows=rows)[:, -1])


def _write(network: Decoder | EncoderDecoder, cache: KVCache, sources: KVCache | None, slots: int, length: int) -> None:
    """The last token of every text, drawn."""
    positions_BT, rows = _places(cache, slots, length, 1)
    if isinstance(network, EncoderDecoder):
        assert sources is not None
        source = SourceRows(sources, _ids(slots, length), _ids(slots, 1)[:, 0], length, torch.float32)
        hidden_BTC = network(_ids(slots, 1), positions_BT, rows=rows, source=source)
    else:
        hidden_BTC = network(_ids(slots, 1), positions_BT, rows=rows)
    _draw(network.head(hidden_BTC[:, -1]))


def _places(cache: KVCache, slots: int, length: int, width: int) -> tuple[Tensor, HeldRows]:
    """The last `width` positions of the first slots."""
    positions_BT = torch.arange(length - width, length).expand(slots, -1)
    places = slice(length) if slots == 1 else _ids(slots, length)
    return positions_BT, HeldRows(cache, places, _ids(slots, width), positions_BT, length)


def _ids(rows: int, width: int) -> Tensor:
    return torch.zeros(rows, width, dtype=torch.long)
