"""Where the weights of each layer lie in a directory's files, found from names and headers alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir, TensorEntry
from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.network import make_network
from ingot.model.place.disk import Weight
from ingot.model.quantized import ENDS
from ingot.model.weights import DTYPES, full_name


@dataclass(frozen=True)
class Layout:
    """Of a decoder's directory: the shape of every weight by its full name, and the names of each layer's."""

    base: ModelDir
    shapes: dict[str, tuple[int, ...]]
    layers: list[list[str]]

    @classmethod
    def of(cls, base: ModelDir) -> Layout:
        """Raises `not-a-decoder`."""
        config = ModelConfig.read(base.config, base.path / "config.json")
        with torch.device("meta"):
            network = make_network(config)
        if not isinstance(network, Decoder):
            raise fail("not-a-decoder", path=base.path, family=config.model_type)
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        layers = [[names[id(parameter)] for parameter in block.parameters()] for block in network.blocks]
        return cls(base, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}, layers)

    @cached_property
    def stored(self) -> dict[str, tuple[str, tuple[TensorEntry, ...]]]:
        """For every full name the plain one in the files, and the parts that it is stored in."""
        parts = defaultdict(list)
        quantized = self.base.config.get("quantization_config") is not None
        for name, entry in self.base.tensors.items():
            parts[ENDS.sub(".weight", name) if quantized else name].append(entry)
        return {full_name(name, self.shapes): (name, tuple(entries)) for name, entries in parts.items()}

    def weights(self, layer: int, dtype: torch.dtype | None) -> Sequence[Weight]:
        """Those of a layer, to be held in `dtype` (None: as stored). Raises `missing-tensor`, `wrong-shape`,
        `dtype-not-supported`."""
        return [self._weight(name, dtype) for name in self.layers[layer]]

    def bytes(self, layer: int) -> int:
        """What a layer takes in the files."""
        entries = [entry for name in self.layers[layer] if name in self.stored for entry in self.stored[name][1]]
        return sum(entry.end - entry.begin for entry in entries)

    def _weight(self, name: str, dtype: torch.dtype | None) -> Weight:
        if name not in self.stored:
            raise fail("missing-tensor", tensor=name, path=self.base.path)
        plain, entries = self.stored[name]
        weight = Weight(self.base, plain, entries, self.shapes[name], dtype or _floats(entries[0].dtype))
        if weight.is_plain and entries[0].dtype not in DTYPES:
            raise fail("dtype-not-supported", tensor=plain, path=entries[0].file, found=entries[0].dtype)
        if weight.is_plain and entries[0].shape != weight.shape:
            raise fail("wrong-shape", tensor=plain, path=self.base.path, found=list(entries[0].shape),
                       expected=list(weight.shape))  # fmt: skip
        return weight


def _floats(stored: str) -> torch.dtype:
    found = DTYPES.get(stored, torch.float32)
    return found if found.is_floating_point else torch.float32
