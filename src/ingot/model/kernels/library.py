"""The compiled kernels from Python: whether this machine can run them, and calling them on tensors.

`INGOT_KERNELS` chooses: auto (the default), vectors (AVX512-VNNI only), off (plain torch). All give the same results,
but for float32 rounding in torch.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ingot.core.errors import IngotError, fail, nearest
from ingot.core.progress import warn
from ingot.model.kernels.build import library_path

CHOICES = ("auto", "vectors", "off")
VECTORS = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "fma"}
TILES = {"amx_tile", "amx_int8", "gfni"}

ROW, GROUP_BF16, GROUP_FLOAT32 = range(3)
"""How scales of weights are held, as `enum class Scale` numbers them."""


class Linear(ctypes.Structure):
    """`struct Linear` of linear.h. Addresses are plain numbers, so that a module that keeps one can be copied."""

    _fields_ = (
        ("codes", ctypes.c_size_t),
        ("scales", ctypes.c_size_t),
        ("bias", ctypes.c_size_t),
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("bits", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("scale", ctypes.c_int32),
    )


@dataclass(frozen=True)
class Kernels:
    """The library, open. `tiles`: whether AMX may be used."""

    library: ctypes.CDLL
    tiles: bool

    @property
    def name(self) -> str:
        return "AVX512-VNNI + AMX" if self.tiles else "AVX512-VNNI"

    def linear(self, weight: Linear, x_MK: Tensor, tiles: bool | None = None) -> Tensor:
        """The layer's output, (M, rows), for float32 that lies row by row. `tiles` False: vectors whatever M."""
        assert x_MK.dtype == torch.float32, x_MK.dtype
        assert x_MK.is_contiguous(), x_MK.stride()
        assert x_MK.shape[1] == weight.columns, x_MK.shape
        y_MN = x_MK.new_empty(len(x_MK), weight.rows)
        torch.get_num_threads()  # has torch set OpenMP's number of threads in this thread of ours, where it is new
        use = self.tiles if tiles is None else tiles and self.tiles
        self.library.ingot_linear(ctypes.byref(weight), x_MK.data_ptr(), len(x_MK), y_MN.data_ptr(), use)
        return y_MN


def kernels() -> Kernels | None:
    """The kernels, where this machine runs them; else the user is told why, once."""
    found = _find(os.environ.get("INGOT_KERNELS", "auto"))
    return found if isinstance(found, Kernels) else None


@functools.cache
def _find(choice: str) -> Kernels | IngotError:
    """Raises `kernels-choice` for a word that is none."""
    if choice not in CHOICES:
        raise fail("kernels-choice", found=choice, nearest=nearest(choice, CHOICES))
    try:
        if choice == "off":
            raise fail("kernels-off")
        flags = cpu_flags()
        if not flags >= VECTORS:
            raise fail("kernels-no-cpu")
        library = _open(library_path())
    except IngotError as error:
        warn("kernels-missing", reason=error)
        return error
    return Kernels(library, choice == "auto" and flags >= TILES and bool(library.ingot_allow_tiles()))


def _open(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise fail("kernels-not-compiled", command=path, reason=error) from None
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.ingot_linear.argtypes = (pointer, pointer, number, pointer, number)
    library.ingot_linear.restype = None
    library.ingot_quantize.argtypes = (pointer, number, number, number, pointer, pointer, pointer)
    library.ingot_quantize.restype = None
    return library


def cpu_flags() -> frozenset[str]:
    """What Linux says this CPU can do; nothing elsewhere."""
    if platform.machine() != "x86_64":
        return frozenset()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))
