"""What a model on packed weights holds of memory, from names and shapes alone, and refusing one that does not fit
before anything of it is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ingot.core.errors import fail
from ingot.core.format import show_bytes
from ingot.model.available import free_bytes
from ingot.model.packed import PackedWeight
from ingot.model.packed_files import SMALL
from ingot.model.packing import Packer
from ingot.model.place.choose import cached_tokens
from ingot.model.place.sizes import sizes_of
from ingot.model.weights import full_name


@dataclass(frozen=True)
class Held:
    """Bytes of a model that runs packed: codes and scales; what stays as it is, as it is held; and pages of the packed
    file that were read to be converted and stay in memory as long as the file is mapped."""

    packed: int
    plain: int
    mapped: int

    @property
    def total(self) -> int:
        return self.packed + self.plain + self.mapped


def held(packer: Packer, dtype: torch.dtype | None = torch.float32) -> Held:
    """What the model holds once it is loaded from its packed file; in `dtype` (None: as stored) what is not packed."""
    sizes = {"packed": 0, "plain": 0, "mapped": 0}
    for name, form in packer.forms():
        if isinstance(form, PackedWeight):
            sizes["packed"] += form.codes.nbytes + form.scales.nbytes
            continue
        full = full_name(name, packer.expected)
        if full == packer.head:  # a file's own copy of a tied head is compared and let go
            continue
        stays = full in packer.looked_up or dtype in (None, form.dtype)
        sizes["plain"] += form.nbytes if stays else (dtype or form.dtype).itemsize * form.numel()
        sizes["mapped"] += 0 if stays or form.nbytes <= SMALL else form.nbytes
    return Held(**sizes)


def check_room(packer: Packer, dtype: torch.dtype | None) -> None:
    """Refuse a model that memory cannot hold. Raises `packed-too-large`."""
    free, base, config = free_bytes(torch.device("cpu")), packer.model_dir, packer.network.config
    if free is None:
        return
    found, rest = held(packer, dtype), sizes_of(base, config, dtype, cached_tokens(config), None)
    cache = rest.kv * len(rest.layers)
    total = round((1 + rest.heap) * (found.total + cache + rest.work))
    if total > free:
        raise fail("packed-too-large", path=base.path, weights=packer.plan, free=show_bytes(free),
                   total=show_bytes(total), packed=show_bytes(found.packed),
                   plain=show_bytes(found.plain + found.mapped), kv=show_bytes(cache),
                   work=show_bytes(rest.work))  # fmt: skip
