"""The dense weights of a model reference, one at a time: what the verbs here read.

`DIR+ADAPTER` is read as if the adapter had been merged: a weight the adapter updates is merged when it is asked for, so
no more than one tensor is held. Quantised directories are refused, because working on decoded codes would add the
error of a second rounding to that of the first and say nothing of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ingot.adapt.files import apply_adapter, read_config
from ingot.adapt.lora import PREFIX, LoRALayer, lora_layers
from ingot.core.errors import fail
from ingot.core.model_dir import Draft, ModelDir, split_reference
from ingot.model.config import PREFIX_LM, ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.families import DECODERS
from ingot.model.layers import Conv1D
from ingot.model.quantized import Quantization
from ingot.model.weights import DTYPES, check_finite, read_tensor

GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Weights:
    """A model directory and, merged on the fly, an adapter. Build it with `Weights.open`."""

    base: ModelDir
    adapter: ModelDir | None
    decoder: Decoder
    """On the meta device: the architecture, with the adapter's layers wrapped."""

    @classmethod
    def open(cls, reference: str) -> Weights:
        """Raises `not-a-model`, `already-quantized`, `not-a-decoder` and what `apply_adapter` raises."""
        base_path, adapter_path = split_reference(reference)
        base = ModelDir.open(base_path)
        if base.kind != "model":
            raise fail("not-a-model", path=base_path, kind=base.kind)
        if Quantization.of(base.config, base.path / "config.json"):
            raise fail("already-quantized", path=base_path)
        config = ModelConfig.read(base.config, base.path / "config.json")
        if config.model_type not in DECODERS:
            raise fail("not-a-decoder", path=base_path, family=config.model_type)
        with torch.device("meta"):
            decoder = Decoder(config)
        adapter = ModelDir.open(adapter_path) if adapter_path else None
        if adapter:
            if adapter.kind != "adapter":
                raise fail("not-an-adapter", path=adapter_path, kind=adapter.kind)
            apply_adapter(decoder, adapter, base)
        return cls(base, adapter, decoder)

    @property
    def reference(self) -> str:
        """What `load` takes."""
        return f"{self.base.path}+{self.adapter.path}" if self.adapter else str(self.base.path)

    @property
    def name(self) -> str:
        return f"{self.base.name}+{self.adapter.name}" if self.adapter else self.base.name

    @property
    def parents(self) -> list[ModelDir]:
        return [self.base, *([self.adapter] if self.adapter else [])]

    @property
    def names(self) -> list[str]:
        """The tensors' names, in the order they lie on disk."""
        entries = sorted(self.base.tensors.values(), key=lambda entry: (entry.file.name, entry.begin))
        return [entry.name for entry in entries]

    def dtype(self, name: str) -> torch.dtype:
        entry = self.base.tensors[name]
        if entry.dtype not in DTYPES:
            raise fail("dtype-not-supported", tensor=name, path=entry.file, found=entry.dtype)
        return DTYPES[entry.dtype]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.base.tensors[name].shape

    def read(self, name: str) -> Tensor:
        """One tensor, the adapter's update added. Raises `not-finite`."""
        tensor = read_tensor(self.base.tensors[name])
        check_finite(name, tensor, self.base.path)
        module = self._updated.get(name)
        return tensor if module is None else self._merged(module, tensor)

    @cached_property
    def _updated(self) -> dict[str, str]:
        """Name in the checkpoint of each weight the adapter updates -> its module. Bare backbones lack a prefix."""
        outer = next(iter(self.decoder.state_dict())).partition(".")[0] + "."
        modules = [name for name, _ in lora_layers(self.decoder)]
        found = {f"{module}.weight": module for module in modules}
        bare = {name.removeprefix(outer): module for name, module in found.items()}
        return found if found.keys() <= self.base.tensors.keys() else bare

    def _merged(self, module: str, weight: Tensor) -> Tensor:
        """The weight with its update, by the layer that runs it."""
        assert self.adapter is not None
        wrapped = self.decoder.get_submodule(module)
        assert isinstance(wrapped, LoRALayer)
        with torch.device("meta"):
            base = Conv1D(*weight.shape) if isinstance(wrapped.base_layer, Conv1D) else nn.Linear(*weight.shape[::-1])
            layer = LoRALayer(base, read_config(self.adapter))
        layer.base_layer.weight = nn.Parameter(weight, requires_grad=False)
        for part in ("lora_A", "lora_B"):
            update = read_tensor(self.adapter.tensors[f"{PREFIX}{module}.{part}.weight"])
            getattr(layer, part).weight = nn.Parameter(update, requires_grad=False)
        return layer.merged_weight().detach()


def digest(tensor: Tensor) -> str:
    """sha256 of a tensor's dtype, shape and values: to compare what was written with what was meant."""
    content = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode() + content.tobytes()).hexdigest()


def write_config(draft: Draft, weights: Weights, changes: dict[str, Any] | None = None) -> None:
    """Config, generation config and text files of a model; `changes` replace keys of the config."""
    parent = weights.base
    directions = {PREFIX_LM: True} if weights.decoder.config.prefix_lm else {}
    draft.write_json("config.json", parent.config | directions | (changes or {}))
    if (parent.path / GENERATION).exists():
        (draft.path / GENERATION).write_bytes((parent.path / GENERATION).read_bytes())
    draft.copy_text_files(parent)
