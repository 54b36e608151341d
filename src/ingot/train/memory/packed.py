"""A model on packed weights without its weights: what it holds, what packing takes, and a network to be rehearsed.

All sizes come from the code that packs and loads (`ingot.model.packing`), run on tensors without values; what the fused
step works in, from the compiled step itself.
"""

from __future__ import annotations

from array import array
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ingot.core.model_dir import ModelDir, TensorEntry
from ingot.infer.blocks import blocks_for
from ingot.infer.fused_spec import describe, refusal
from ingot.model.config import Json, ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.kernels.decoder import NativeDecoder, Step
from ingot.model.kernels.library import Kernels, kernels
from ingot.model.network import Network, make_network
from ingot.model.packed import PackedWeight
from ingot.model.packed_linear import PackedLinear
from ingot.model.packed_load import look_up_in
from ingot.model.packing import Packer, Source, packed
from ingot.model.quantized import Codes, unpack
from ingot.model.weights import DTYPES
from ingot.train.memory.rehearsal import Storages


def imagined(config: Json, name: str, shapes: dict[str, tuple[int, ...]], dtype: str = "F32") -> ModelDir:
    """A directory that nobody has written: tensors of these shapes, all of one of safetensors' types."""
    size = DTYPES[dtype].itemsize
    entries = {each: TensorEntry(each, Path(name), dtype, shape, 0, size * torch.Size(shape).numel())
               for each, shape in shapes.items()}  # fmt: skip
    return ModelDir(Path(name), "model", config, entries, None)


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Of every weight of a config's network."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in make_network(config).state_dict().items()}


def packing_peak(packer: Packer) -> float:
    """Bytes at the worst moment of packing, one weight after the other, each written and let go."""
    sources = {name: packer.source(name) for name in packer.layers}
    kinds = {(str(s.layer.weight.shape), s.packing, s.is_coded, type(s.layer)): s for s in sources.values()}
    rest = [tensor.nbytes for _, tensor in packer.forms() if isinstance(tensor, Tensor)]
    return float(max([*(_one_peak(packer, source) for source in kinds.values()), *rest]))


def _one_peak(packer: Packer, source: Source) -> float:
    with Storages() as storages:
        weight = packer.unpacked_form(source)
        packed(weight, source)
    return max(storages.peak, _unpacking(weight) if isinstance(weight, Codes) else 0.0)


def _unpacking(weight: Codes) -> float:
    """What reading codes out of their words takes."""
    (rows, columns), bits = weight.codes.shape, weight.bits
    with FakeTensorMode(), Storages() as storages:
        unpack(torch.empty(rows, -(-columns * bits // 32), dtype=torch.int32), bits, columns)
    return storages.peak


def fill(network: Network, packer: Packer, device: str) -> Network:
    """Put packed layers without values into a network, and its embedding in the numbers it is stored in."""
    for name, layer in packer.hold(network).items():
        form = packer.form(name)
        codes, scales = (torch.empty_like(part, device=device) for part in (form.codes, form.scales))
        layer.fill(PackedWeight(codes, scales, form.rows, form.columns, form.bits, form.group))
        layer._by = partial(_shape_alone, layer)  # type: ignore[method-assign]
    if isinstance(network, Decoder):
        stored = dict(packer.forms_of_rest())[packer.stored[str(packer.table)]]
        network.embedding.weight = nn.Parameter(torch.empty_like(stored, device=device), requires_grad=False)
        look_up_in(network, torch.float32)
    return network


def _shape_alone(layer: PackedLinear, found: Kernels, x_MK: Tensor) -> Tensor:
    """What the kernels give, without values."""
    return x_MK.new_empty(len(x_MK), layer.out_features)


def fused_room(packer: Packer, reads: list[tuple[list[int], list[int]]]) -> int | None:
    """Bytes that the fused step works in once it has read so many tokens of texts, from these places on; None where the
    model is run layer by layer (`ingot.infer.runners`)."""
    network, found = fill(packer.fresh(), packer, "meta"), kernels()
    if found is None or refusal(network) is not None:
        return None
    assert isinstance(network, Decoder)
    described = describe(network)
    described.spec.tiles = found.tiles
    decoder, room = NativeDecoder(found.library, described.spec), 0
    for counts, begins in reads:
        step, _kept = _step(counts, begins, network.config.num_layers)
        room = decoder.room(step)
    return room


def _step(counts: list[int], begins: list[int], layers: int) -> tuple[Step, list[array[int]]]:
    """A step's numbers, and the arrays that they lie in."""
    offsets = [0, *accumulate(blocks_for(begin + count) for begin, count in zip(begins, counts, strict=True))]
    rows = [array("i", row) for row in (counts, begins, offsets, [1] * len(counts))]
    addresses = [row.buffer_info()[0] for row in rows]
    return Step(0, *addresses, 0, 0, len(counts), torch.get_num_threads(), layers), rows
