"""What writing text takes, counted as a step of training is: the network and the cache of `ingot.infer` are run on
tensors that have shapes but no memory, first reading as much of a prompt as is read at once, then writing a token of
every text. The cache holds as many blocks as these texts fill: that is what the engine's takes of a computer's memory,
whose pages are its own once they were written to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ingot.infer.blocks import BLOCK, blocks_for
from ingot.infer.engine import PREFILL_TOKENS
from ingot.model.cache import HeldRows, KVCache, SourceRows
from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.encoder import Encoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.network import make_network
from ingot.train.memory.rehearsal import Evenly, Storages, plain_positions

CHECKING = 1.5
"""What is made beside a tensor that has been read, as a share of it, to see whether all of it is finite."""


@dataclass(frozen=True)
class Writing:
    """Bytes: weights, the caches of `slots` texts, and all that is alive at the worst moment."""

    weights: float
    cache: float
    peak: float


def rehearse_writing(config: ModelConfig, slots: int, length: int, room: int) -> Writing:
    """Texts of `length` tokens, prompt and answer together; of an encoder-decoder, source and answer each. An encoder
    reads one such text. `room`: tokens of each that the cache takes memory for, which a card gives all at once."""
    alone = Evenly(getattr(config, "experts", 1))
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), alone, Storages() as storages:
        network = make_network(plain_positions(config)).eval()
        weights = storages.now
        storages.peak = weights + CHECKING * max(4.0 * parameter.numel() for parameter in network.parameters())
        if isinstance(network, Encoder):
            network.head(network(_ids(1, length)))
            return Writing(weights, 0.0, storages.peak)
        cache = _filled(config, slots, room)
        sources = _filled(config, slots, room) if isinstance(network, EncoderDecoder) else None
        held = storages.now - weights
        _read(network, cache, length)
        _write(network, cache, sources, slots, length)
        return Writing(weights, held, storages.peak)


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
    network.head(hidden_BTC[:, -1]).softmax(-1)


def _filled(config: ModelConfig, slots: int, length: int) -> KVCache:
    """The blocks of so many texts."""
    return KVCache(config, slots * blocks_for(length) * BLOCK, torch.device("cpu"), torch.float32)


def _places(cache: KVCache, slots: int, length: int, width: int) -> tuple[Tensor, HeldRows]:
    """The last `width` positions of the first slots."""
    positions_BT = torch.arange(length - width, length).expand(slots, -1)
    places = slice(length) if slots == 1 else _ids(slots, length)
    return positions_BT, HeldRows(cache, places, _ids(slots, width), positions_BT, length)


def _ids(rows: int, width: int) -> Tensor:
    return torch.zeros(rows, width, dtype=torch.long)
