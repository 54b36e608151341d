"""The low-rank updates in an adapter's files, without the model they belong to, and matrices of low rank."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ingot.adapt.dora import DoRA
from ingot.adapt.files import CONFIG, PREFIX, read_settings
from ingot.adapt.lora import LoRA
from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir
from ingot.model.weights import check_finite, read_tensor

DOWN, UP = "lora_A.weight", "lora_B.weight"
EMBEDDING_DOWN, EMBEDDING_UP = "lora_embedding_A", "lora_embedding_B"

LARGE = 1 << 22
"""Numbers in a matrix from which its singular values are computed in float32 rather than float64."""


@dataclass(frozen=True)
class Update:
    """scale * up @ down, added to one layer's weight, (out, in); to an embedding's, transposed."""

    layer: str
    down_RI: Tensor
    up_OR: Tensor
    scale: float
    is_embedding: bool = False

    @property
    def rank(self) -> int:
        return int(self.down_RI.shape[0])

    @property
    def numbers(self) -> int:
        return self.down_RI.numel() + self.up_OR.numel()

    def delta(self) -> Tensor:
        """The whole matrix in float64."""
        return self.scale * (self.up_OR.double() @ self.down_RI.double())

    def norm(self) -> float:
        """The Frobenius norm of the whole matrix, which is not made."""
        up, down = self.up_OR.double(), self.down_RI.double()
        return abs(self.scale) * float(((up.t() @ up) * (down @ down.t())).sum().clamp(min=0).sqrt())

    def tensors(self) -> Iterable[tuple[str, Tensor]]:
        """Under PEFT's names."""
        down, up = (EMBEDDING_DOWN, EMBEDDING_UP) if self.is_embedding else (DOWN, UP)
        yield f"{PREFIX}{self.layer}.{down}", self.down_RI.contiguous()
        yield f"{PREFIX}{self.layer}.{up}", self.up_OR.contiguous()


def read_low_rank(adapter: ModelDir) -> tuple[LoRA, list[Update]]:
    """Settings and updates of a LoRA adapter. Raises `adapters-low-rank` for one that is, or holds, something else."""
    settings = read_settings(adapter)
    if not isinstance(settings, LoRA) or isinstance(settings, DoRA):
        raise fail("adapters-low-rank", path=adapter.path / CONFIG, found=settings.name)
    if settings.parameters:
        raise fail("adapters-low-rank", path=adapter.path / CONFIG, found="target_parameters")
    found = []
    rest = set(adapter.tensors)
    for name in sorted(adapter.tensors):
        for down, up in ((DOWN, UP), (EMBEDDING_DOWN, EMBEDDING_UP)):
            other = name.removesuffix(down) + up
            if name.endswith(f".{down}") and other in adapter.tensors:
                rest -= {name, other}
                layer = name.removeprefix(PREFIX).removesuffix(f".{down}")
                pair = _read(adapter, name), _read(adapter, other)
                found.append(Update(layer, *pair, settings.scale(layer)[1], down == EMBEDDING_DOWN))
    if rest:
        raise fail("adapters-low-rank", path=adapter.path, found=sorted(rest)[0])
    return settings, found


def _read(adapter: ModelDir, name: str) -> Tensor:
    tensor = read_tensor(adapter.tensors[name])
    check_finite(name, tensor, adapter.path)
    return tensor


class LowRank(NamedTuple):
    """The matrix of a rank that is nearest to another, as up @ down, and the share of the other's energy (the sum of
    its squares) that it keeps."""

    down_RI: Tensor
    up_OR: Tensor
    energy: float


def nearest_of_rank(matrix: Tensor, rank: int, energy: float | None = None) -> LowRank:
    """By singular values (Eckart and Young 1936); of at most `rank`, or less where that keeps `energy` of the whole.

    Both sides carry the root of the singular values.
    """
    wide = matrix.double() if matrix.numel() < LARGE else matrix.float()
    up, values, down = torch.linalg.svd(wide, full_matrices=False)
    shares = (values.double().square().cumsum(0) / values.double().square().sum().clamp(min=1e-300)).tolist()
    if energy is not None:
        rank = min(rank, next((n + 1 for n, share in enumerate(shares) if share >= energy), len(shares)))
    root = values[:rank].sqrt()
    return LowRank(root[:, None] * down[:rank], up[:, :rank] * root, float(shares[min(rank, len(shares)) - 1]))
