"""A network whose linear layers run on 4 or 8 bits: on the codes a directory stores, or on weights packed on the way.

What is packed: the linear layers of all blocks, experts included, and a decoder's head, which has 8 bits a row whatever
the layers have. Dense stay embeddings, norms, the layers that choose among experts, heads of other kinds of network,
and codes in groups that the layout has no place for. An embedding is held as it is stored, and only looked up.

Each tensor is read, packed and written before the next (`ingot.model.packing`, `ingot.model.packed_files`).
"""

from __future__ import annotations

from pathlib import Path

import torch

from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir
from ingot.core.progress import say, warn
from ingot.model import packed_files
from ingot.model.available import give_back
from ingot.model.kernels.library import kernels
from ingot.model.layers import Embedding
from ingot.model.network import Network
from ingot.model.packed import has_place
from ingot.model.packed_size import check_room
from ingot.model.packing import PACKINGS, Packer, Plan
from ingot.model.quantized import Quantization, coded
from ingot.model.weights import load_network

WEIGHTS = ("auto", "dense", *PACKINGS)
"""What a model may be asked to run on."""


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
    """The network. Raises what `load_network` and `check_room` do."""
    packer = Packer(model_dir, plan)
    check_room(packer, dtype)
    path = packed_files.place(model_dir, repr(plan))
    items = packed_files.read(path) or _packed(packer, path)
    network = load_network(model_dir, items, dtype, packer.hold, as_stored=packer.looked_up)
    look_up_in(network, dtype)
    return network


def look_up_in(network: Network, dtype: torch.dtype | None) -> None:
    """Have embeddings that are held in other numbers give these."""
    for module in network.modules():
        if isinstance(module, Embedding) and dtype and module.weight.dtype != dtype:
            module.gives = dtype


def _packed(packer: Packer, path: Path | None) -> list[packed_files.Item]:
    """Pack, each weight straight to the file, and read that: which proves it, and no weight is in memory twice. In
    memory where nothing can be kept."""
    say("packing", weights=packer.plan, path=packer.model_dir.path)
    if path is not None and packed_files.write(path, packer.items(), packer.forms()):
        give_back()
        found = packed_files.read(path)
        if found is not None:
            return found
    return list(packer.items())
