"""The dense weights of a model reference, one at a time: what the verbs here read.

`DIR+ADAPTER` is read as if the adapters had been merged: a weight that adapters change is merged when it is asked for,
so no more than one tensor is held beside the adapters. Quantised directories are refused, because working on decoded
codes would add the error of a second rounding to that of the first and say nothing of it.

Adapters that change the embedding or its tied head part the two (`ingot.adapt.tied`): the head is then a tensor of its
own, and the config says so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.adapt.load import apply_adapters, open_reference
from ingot.adapt.methods import Settings
from ingot.adapt.wrapped import Wrapped, plain_name, wrapped
from ingot.core.errors import fail
from ingot.core.model_dir import Draft, ModelDir
from ingot.model.config import PREFIX_LM, ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.network import Network, make_network
from ingot.model.quantized import Quantization
from ingot.model.weights import DTYPES, check_finite, read_tensor

GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Weights:
    """A model directory and, merged on the fly, adapters. Build it with `Weights.open`."""

    base: ModelDir
    adapters: list[ModelDir]
    settings: tuple[Settings, ...]
    network: Network
    """The architecture, on the meta device, with the adapters around it."""

    @classmethod
    def open(cls, reference: str, any_base: bool = False) -> Weights:
        """`any_base`: the model is not the one the adapters were trained on. Raises `not-a-model`,
        `already-quantized`, `adapter-cannot-merge` and what `apply_adapter` raises."""
        base, adapters = open_reference(reference)
        if Quantization.of(base.config, base.path / "config.json"):
            raise fail("already-quantized", path=base.path)
        with torch.device("meta"):
            network = make_network(ModelConfig.read(base.config, base.path / "config.json"))
        settings = apply_adapters(network, base, adapters, Active(), any_base)
        for each in settings:
            if not each.can_merge:
                raise fail("adapter-cannot-merge", method=each.name)
        return cls(base, adapters, settings, network)

    @property
    def decoder(self) -> Decoder:
        """The network, where it writes on its own. Raises `not-a-decoder`."""
        if not isinstance(self.network, Decoder):
            raise fail("not-a-decoder", path=self.base.path, family=self.network.config.model_type)
        return self.network

    @property
    def parents(self) -> list[ModelDir]:
        return [self.base, *self.adapters]

    @property
    def reference(self) -> str:
        """What `load` takes."""
        return "+".join(str(parent.path) for parent in self.parents)

    @property
    def name(self) -> str:
        return "+".join(parent.name for parent in self.parents)

    @property
    def changes(self) -> dict[str, Any]:
        """What adapters change of the config."""
        directions = {PREFIX_LM: True} if self.network.config.prefix_lm else {}
        return directions | ({"tie_word_embeddings": False} if self._parted else {})

    @property
    def names(self) -> list[str]:
        """The tensors' names, in the order they lie on disk; a head that was parted comes last."""
        entries = sorted(self.base.tensors.values(), key=lambda entry: (entry.file.name, entry.begin))
        return [*dict.fromkeys([*(entry.name for entry in entries), *self._parted])]

    def dtype(self, name: str) -> torch.dtype:
        entry = self.base.tensors[self._stored(name)]
        if entry.dtype not in DTYPES:
            raise fail("dtype-not-supported", tensor=name, path=entry.file, found=entry.dtype)
        return DTYPES[entry.dtype]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.base.tensors[self._stored(name)].shape

    def read(self, name: str) -> Tensor:
        """One tensor, changed by the adapters. Raises `not-finite`."""
        tensor = read_tensor(self.base.tensors[self._stored(name)])
        check_finite(name, tensor, self.base.path)
        return self.changed(name, tensor)

    def changed(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor with the adapters put into it."""
        found = self._wrapped.get(name)
        return tensor if found is None else self._merged(*found, tensor)

    def unmerged(self, name: str) -> Tensor:
        """One tensor, the adapters taken out of it, the outermost first. Raises `adapter-cannot-unmerge`."""
        tensor = read_tensor(self.base.tensors[name])
        check_finite(name, tensor, self.base.path)
        if name not in self._wrapped:
            return tensor
        layer, part = self._wrapped[name]
        found, below = tensor.double(), layer
        while isinstance(below, Wrapped):
            found = below.taken_out(part, found)
            below = below.base_layer  # type: ignore[assignment]
        return found.to(tensor.dtype).contiguous()

    @cached_property
    def _parted(self) -> dict[str, str]:
        """Name of the head's tensor -> of the embedding's, where adapters part the two."""
        before = ModelConfig.read(self.base.config, self.base.path)
        if before.tie_embeddings == self.network.config.tie_embeddings:
            return {}
        with torch.device("meta"):
            ties = make_network(before).ties
        return {head: self._name(embedding) for head, embedding in ties.items()}

    def _stored(self, name: str) -> str:
        """The tensor on disk that a name begins as."""
        return name if name in self.base.tensors else self._parted[name]

    @cached_property
    def _wrapped(self) -> dict[str, tuple[Wrapped, str]]:
        """Name in the checkpoint of each tensor that adapters change -> the outermost wrapper, and which part it is."""
        outermost = {name: module for name, module in wrapped(self.network) if not name.endswith(".base_layer")}
        return {
            self._name(f"{plain_name(name)}.{part}"): (module, part)
            for name, module in outermost.items()
            for part, _ in module.origin.named_parameters()
        }

    def _name(self, name: str) -> str:
        """A name as this checkpoint has it: bare backbones lack a prefix."""
        bare = name.partition(".")[2]
        return bare if name not in self.base.tensors and bare in self.base.tensors else name

    def _merged(self, module: Wrapped, part: str, tensor: Tensor) -> Tensor:
        """The tensor, changed by the wrappers that would run it; one part of a layer may need the other."""
        layer, before = module.origin, dict(module.origin.named_parameters())
        outer = next(name for name, found in self._wrapped.items() if found == (module, part)).removesuffix(part)
        for name in before:
            stored = self._stored(f"{outer}{name}")
            _set(layer, name, tensor if name == part else read_tensor(self.base.tensors[stored]))
        try:
            return module.merged(part, torch.float64).to(tensor.dtype).contiguous().detach()
        finally:
            for name, parameter in before.items():
                _set(layer, name, parameter)


def _set(layer: nn.Module, name: str, tensor: Tensor) -> None:
    """Give a layer another parameter."""
    inner, _, place = name.rpartition(".")
    setattr(layer.get_submodule(inner), place, nn.Parameter(tensor, requires_grad=False))


def digest(tensor: Tensor) -> str:
    """sha256 of a tensor's dtype, shape and values: to compare what was written with what was meant."""
    content = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode() + content.tobytes()).hexdigest()


def write_config(draft: Draft, weights: Weights, changes: dict[str, Any] | None = None) -> None:
    """Config, generation config and text files of a model with its adapters; `changes` replace keys of the
    config."""
    parent = weights.base
    draft.write_json("config.json", parent.config | weights.changes | (changes or {}))
    if (parent.path / GENERATION).exists():
        (draft.path / GENERATION).write_bytes((parent.path / GENERATION).read_bytes())
    draft.copy_text_files(parent)
