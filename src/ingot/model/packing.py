"""What of a directory's weights is packed, and how: decided by names and shapes, so that it is known before a weight is
read, and packing it one weight at a time.

`Packer.items` gives the network's weights as they run, `Packer.forms` the same without values: what a file's head says,
and what a plan of memory counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir, TensorEntry
from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.held import linear_layers
from ingot.model.layers import Conv1D
from ingot.model.network import Network, make_network
from ingot.model.packed import PackedWeight, Packing
from ingot.model.packed_files import Item
from ingot.model.packed_linear import PackedLinear
from ingot.model.quantized import Codes, Scheme, dense_names, read_codes, read_dense_tensor
from ingot.model.weights import DTYPES, check_finite, full_name

PACKINGS = {"int8": Packing(8, None), "int4": Packing(4, 64)}
HEAD = PACKINGS["int8"]


@dataclass(frozen=True)
class Plan:
    """Which stored codes run as they are, by plain name of the weight, and how other layers are packed; None: not."""

    codes: dict[str, Scheme]
    packing: Packing | None

    def __str__(self) -> str:
        """What the layers run on."""
        kinds = {str(Packing(scheme.bits, scheme.group_size)) for scheme in self.codes.values()}
        return ", ".join(sorted(kinds | ({str(self.packing)} if self.packing else set())))


@dataclass(frozen=True)
class Source:
    """Where a packed weight comes from: the name it is stored under, the layer whose weight it is, how it is packed
    where it is not stored as codes that run."""

    stored: str
    layer: nn.Linear | Conv1D
    packing: Packing | None
    is_coded: bool


@dataclass
class Packer:
    """Packing a directory by a plan. Names are the network's; `stored` has the directory's."""

    model_dir: ModelDir
    plan: Plan

    def fresh(self) -> Network:
        """The network without weights and without memory, nothing packed in it yet."""
        with torch.device("meta"):
            return make_network(ModelConfig.read(self.model_dir.config, self.model_dir.path / "config.json"))

    @cached_property
    def network(self) -> Network:
        """The same, to be asked for shapes."""
        return self.fresh()

    @cached_property
    def expected(self) -> dict[str, list[int]]:
        return {name: list(tensor.shape) for name, tensor in self.network.state_dict().items()}

    @cached_property
    def stored(self) -> dict[str, str]:
        return {full_name(name, self.expected): name for name in dense_names(self.model_dir)}

    @cached_property
    def layers(self) -> dict[str, nn.Linear | Conv1D]:
        """What is packed, the head last."""
        found = {f"{name}.weight": layer for name, layer in linear_layers(self.network)}
        if self.plan.packing is None:
            found = {name: layer for name, layer in found.items() if self.stored.get(name) in self.plan.codes}
        return found | ({self.head: _layer(self.network, self.head)} if self.head else {})

    @cached_property
    def head(self) -> str | None:
        return f"{self.network.family.head}.weight" if isinstance(self.network, Decoder) else None

    @cached_property
    def table(self) -> str | None:
        """A decoder's embedding."""
        if not isinstance(self.network, Decoder):
            return None
        return next(name for name, each in self.network.named_parameters() if each is self.network.embedding.weight)

    @property
    def looked_up(self) -> frozenset[str]:
        """What is only looked up."""
        return frozenset({self.table} if self.table else ())

    def hold(self, network: Network) -> dict[str, PackedLinear]:
        """Put packed layers in place, empty."""
        found = {name: PackedLinear(_layer(network, name)) for name in self.layers}
        for name, layer in found.items():
            parent, _, child = name.removesuffix(".weight").rpartition(".")
            setattr(network.get_submodule(parent), child, layer)
        return found

    def items(self) -> Iterator[Item]:
        """Everything the network is made of. A tied head comes from the embedding, beside what a file repeats of it."""
        for name in self.layers:
            yield name, self._pack(self.source(name))
        for stored in self.rest:
            yield stored, read_dense_tensor(self.model_dir, stored)

    def forms(self) -> Iterator[Item]:
        """The same without values."""
        for name in self.layers:
            yield name, self.form(name)
        yield from self.forms_of_rest()

    def forms_of_rest(self) -> Iterator[tuple[str, Tensor]]:
        for stored in self.rest:
            yield stored, self._dense_form(stored)

    def form(self, name: str) -> PackedWeight:
        """A packed weight without values."""
        source = self.source(name)
        rows, columns = source.layer.out_features, source.layer.in_features
        if not source.is_coded:
            assert source.packing is not None, name
            return PackedWeight.quantized_outline(rows, columns, source.packing)
        scale = self._scale(source.stored)
        bits = self.plan.codes[source.stored].bits
        return PackedWeight.outline(rows, columns, bits, scale.shape[1], DTYPES[scale.dtype])

    def source(self, name: str) -> Source:
        """Raises `missing-tensor`."""
        origin = self.table if name == self.head and self.tied else name
        if origin not in self.stored:
            raise fail("missing-tensor", tensor=origin, path=self.model_dir.path)
        stored, packing = self.stored[origin], HEAD if name == self.head else self.plan.packing
        return Source(stored, self.layers[name], packing, stored in self.plan.codes)

    def unpacked_form(self, source: Source) -> Tensor | Codes:
        """What a weight is before it is packed, without values."""
        shape = source.layer.weight.shape
        if not source.is_coded:
            return torch.empty(shape, dtype=self._dtype(source.stored), device="meta")
        scale = self._scale(source.stored)
        codes = torch.empty(shape, dtype=torch.int8, device="meta")
        bits = self.plan.codes[source.stored].bits
        return Codes(codes, torch.empty(scale.shape, dtype=DTYPES[scale.dtype], device="meta"), bits)

    def _scale(self, stored: str) -> TensorEntry:
        return self.model_dir.tensors[f"{stored.removesuffix('.weight')}.weight_scale"]

    @property
    def tied(self) -> bool:
        return self.network.config.tie_embeddings

    @property
    def rest(self) -> list[str]:
        """What stays as it is, by the directory's names."""
        kept = [name for name in self.stored if name not in self.layers or (name == self.head and self.tied)]
        return [self.stored[name] for name in kept]

    def _dense_form(self, stored: str) -> Tensor:
        entry = self.model_dir.tensors.get(stored)
        is_plain = entry is not None and f"{stored.removesuffix('.weight')}.weight_scale" not in self.model_dir.tensors
        shape = entry.shape if entry and is_plain else self.expected[full_name(stored, self.expected)]
        return torch.empty(shape, dtype=self._dtype(stored), device="meta")

    def _dtype(self, stored: str) -> torch.dtype:
        """Of a weight when it is read dense: what is coded comes in the numbers of its scales."""
        tensors = self.model_dir.tensors
        entry = tensors.get(f"{stored.removesuffix('.weight')}.weight_scale") or tensors[stored]
        if entry.dtype not in DTYPES:
            raise fail("dtype-not-supported", tensor=entry.name, path=entry.file, found=entry.dtype)
        return DTYPES[entry.dtype]

    def _pack(self, source: Source) -> PackedWeight:
        path, expected = self.model_dir.path, list(source.layer.weight.shape)
        found = read_codes(self.model_dir, source.stored) if source.is_coded else None
        tensor: Tensor = found.codes if found else read_dense_tensor(self.model_dir, source.stored)
        if list(tensor.shape) != expected:
            raise fail("wrong-shape", tensor=source.stored, path=path, found=list(tensor.shape), expected=expected)
        check_finite(source.stored, found.scale if found else tensor, path)
        return packed(found or tensor, source)


def packed(weight: Tensor | Codes, source: Source) -> PackedWeight:
    """A weight as its layer runs on it."""
    if isinstance(weight, Codes):
        return PackedWeight.of(*weight)
    assert source.packing is not None, source.stored
    rows = weight.t().contiguous() if isinstance(source.layer, Conv1D) else weight
    return PackedWeight.quantized(rows, source.packing)


def _layer(network: Network, name: str) -> nn.Linear | Conv1D:
    """The layer of a weight; a tied head has none, and gets the shape of one."""
    module = name.removesuffix(".weight")
    config = network.config
    if isinstance(network, Decoder) and config.tie_embeddings and module == network.family.head:
        return nn.Linear(config.hidden_size, config.vocab_size, bias=False, device="meta")
    layer = network.get_submodule(module)
    assert isinstance(layer, nn.Linear | Conv1D), name
    return layer
