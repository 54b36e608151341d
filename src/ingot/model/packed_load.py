"""A network whose linear layers run on 4 or 8 bits: on the codes a directory stores, or on weights packed on the way.

What is packed: the linear layers of all blocks, experts included, and a decoder's head, which has 8 bits a row whatever
the layers have. Dense stay embeddings, norms, the layers that choose among experts, heads of other kinds of network,
and codes in groups that the layout has no place for. An embedding is held as it is stored, and only looked up.

Each tensor is read, packed and dropped before the next; what comes of it is kept (`ingot.model.packed_files`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir
from ingot.core.progress import say, warn
from ingot.model import packed_files
from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.held import linear_layers
from ingot.model.kernels.library import kernels
from ingot.model.layers import Conv1D, Embedding
from ingot.model.network import Network, make_network
from ingot.model.packed import PackedWeight, Packing, has_place
from ingot.model.packed_linear import PackedLinear
from ingot.model.quantized import Quantization, Scheme, coded, dense_names, read_codes, read_dense_tensor
from ingot.model.weights import check_finite, full_name, load_network

PACKINGS = {"int8": Packing(8, None), "int4": Packing(4, 64)}
HEAD = PACKINGS["int8"]
WEIGHTS = ("auto", "dense", *PACKINGS)
"""What a model may be asked to run on."""


@dataclass(frozen=True)
class Plan:
    """Which stored codes run as they are, by plain name of the weight, and how other layers are packed; None: not."""

    codes: dict[str, Scheme]
    packing: Packing | None

    def __str__(self) -> str:
        """What the layers run on."""
        kinds = {str(Packing(scheme.bits, scheme.group_size)) for scheme in self.codes.values()}
        return ", ".join(sorted(kinds | ({str(self.packing)} if self.packing else set())))


def make_plan(model_dir: ModelDir, weights: str) -> Plan | None:
    """How a directory runs on `weights`, a word of `WEIGHTS`; None: dense. Raises `nf4-not-packed`."""
    if weights == "dense":
        return None
    quantization = Quantization.of(model_dir.config, model_dir.path / "config.json")
    is_nf4 = quantization is not None and quantization.is_nf4
    if is_nf4 and weights != "auto":
        raise fail("nf4-not-packed", path=model_dir.path, weights=weights)
    stored = {} if is_nf4 else coded(model_dir, quantization)
    codes = {name: scheme for name, scheme in stored.items() if has_place(scheme.group_size)}
    if weights == "auto":
        if len(codes) < len(stored):
            sizes = sorted({str(scheme.group_size) for name, scheme in stored.items() if name not in codes})
            number = len(stored) - len(codes)
            warn("codes-stay-dense", path=model_dir.path, number=number, sizes=", ".join(sizes))
        return Plan(codes, None) if codes and kernels() else None
    packing = PACKINGS[weights]
    return Plan({name: scheme for name, scheme in codes.items() if scheme.bits == packing.bits}, packing)


def load_packed(model_dir: ModelDir, plan: Plan, dtype: torch.dtype | None) -> Network:
    """The network. Raises what `load_network` does."""
    packer = _Packer(model_dir, plan)
    path = packed_files.place(model_dir, repr(plan))
    items = packed_files.read(path) or _packed(packer, path)
    network = load_network(model_dir, items, dtype, packer.hold, as_stored=packer.looked_up)
    for module in network.modules():
        if isinstance(module, Embedding) and dtype and module.weight.dtype != dtype:
            module.gives = dtype
    return network


def _packed(packer: _Packer, path: Path | None) -> list[packed_files.Item]:
    """Pack, and keep it; what was kept is read again, because that proves it and lies better in memory."""
    say("packing", weights=packer.plan, path=packer.model_dir.path)
    items = list(packer.items())
    if path is None or not packed_files.write(path, items):
        return items
    return packed_files.read(path) or items


class _Packer:
    """What of a directory is packed, and packing it. Names are the network's; `stored` has the directory's."""

    def __init__(self, model_dir: ModelDir, plan: Plan) -> None:
        self.model_dir, self.plan = model_dir, plan
        with torch.device("meta"):
            network = make_network(ModelConfig.read(model_dir.config, model_dir.path / "config.json"))
        expected = network.state_dict()
        self.stored = {full_name(name, expected): name for name in dense_names(model_dir)}
        self.layers = {f"{name}.weight": layer for name, layer in linear_layers(network)}
        if plan.packing is None:
            self.layers = {name: layer for name, layer in self.layers.items() if self._has_codes(name)}
        self.head, self.table = None, None
        if isinstance(network, Decoder):
            self.head = f"{network.family.head}.weight"
            self.layers[self.head] = _layer(network, self.head)
            self.table = next(name for name, each in network.named_parameters() if each is network.embedding.weight)
        self.tied = network.config.tie_embeddings

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

    def items(self) -> Iterator[packed_files.Item]:
        """Everything the network is made of. A tied head comes from the embedding, beside what a file repeats of it."""
        for name, layer in self.layers.items():
            source = self.table if name == self.head and self.tied else name
            if source not in self.stored:
                raise fail("missing-tensor", tensor=source, path=self.model_dir.path)
            yield name, self._pack(self.stored[source], layer, HEAD if name == self.head else self.plan.packing)
        for name, stored in self.stored.items():
            if name not in self.layers or (name == self.head and self.tied):
                yield stored, read_dense_tensor(self.model_dir, stored)

    def _has_codes(self, name: str) -> bool:
        return self.stored.get(name) in self.plan.codes

    def _pack(self, stored: str, layer: nn.Linear | Conv1D, packing: Packing | None) -> PackedWeight:
        path, expected = self.model_dir.path, list(layer.weight.shape)
        found = read_codes(self.model_dir, stored) if stored in self.plan.codes else None
        tensor: Tensor = found.codes if found else read_dense_tensor(self.model_dir, stored)
        if list(tensor.shape) != expected:
            raise fail("wrong-shape", tensor=stored, path=path, found=list(tensor.shape), expected=expected)
        check_finite(stored, found.scale if found else tensor, path)
        if found:
            return PackedWeight.of(*found)
        assert packing is not None, stored
        return PackedWeight.quantized(tensor.t().contiguous() if isinstance(layer, Conv1D) else tensor, packing)


def _layer(network: Network, name: str) -> nn.Linear | Conv1D:
    """The layer of a weight; a tied head has none, and gets the shape of one."""
    module = name.removesuffix(".weight")
    config = network.config
    if isinstance(network, Decoder) and config.tie_embeddings and module == network.family.head:
        return nn.Linear(config.hidden_size, config.vocab_size, bias=False, device="meta")
    layer = network.get_submodule(module)
    assert isinstance(layer, nn.Linear | Conv1D), name
    return layer
