"""What this machine does fast: bf16 or fp32, compiled or not. Measured or looked up, never assumed.

On many CPUs bf16 products run through slow reference code (hundreds of times slower than fp32); on others they are
twice as fast. Compiling costs half a minute to a minute and pays only for runs longer than that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ingot.core.progress import say, warn
from ingot.train.settings import Precision, Switch

COMPILE_SECONDS = 45.0
"""About what compiling forward and backward takes on two cores."""

COMPILE_GAIN = 1.6
"""How much faster the compiled step was, measured at 1 to 20 million parameters; benchmarks/pretrain.py."""


LEAST_GAIN = 3.0
"""How much faster a product must be in bf16, casts included. On two cores with AMX it was 2.3 times at a width of 128,
where the step gained nothing, and 4.1 times at 384, where the step took 0.42 of its time (LOG.md)."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Parameters of glibc's mallopt."""

OWN_PAGES, MOST_MAPPED = 1 << 20, 1 << 16
"""Bytes from which a block gets pages of its own where memory is to be saved, and how many such blocks there may be."""


def arrange_heap(saving: bool) -> None:
    """Let glibc reuse what was freed instead of giving it back to the system after every operation.

    A step makes and frees hundreds of tensors of tens of megabytes; fetched anew each time, their pages are zeroed by
    the kernel on first touch (a log-softmax in float32 on two cores: 113 ms, then 29). But blocks of many sizes leave
    holes: `saving`, for those who would rather have the memory, gives every large block pages of its own (16 layers
    with checkpointing: 897 MB instead of 1,508).
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_MMAP_THRESHOLD, OWN_PAGES)
    mallopt(M_MMAP_MAX, MOST_MAPPED if saving else 0)


def default_device() -> torch.device:
    """The card where there is one. Its allocator is told to grow blocks in place, unless the user told it otherwise:
    with blocks of fixed sizes a step held up to 1.1 GB that it could not use (LOG.md)."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    return torch.device("cuda")


@contextlib.contextmanager
def fastest_attention(device: torch.device) -> Iterator[None]:
    """Prefer cuDNN's fused attention on a card: faster forward and backward than the flash kernel (LOG.md)."""
    if device.type != "cuda":
        yield
        return
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(order, set_priority=True):
        yield


def choose_precision(wanted: Precision, width: int, device: torch.device) -> torch.dtype:
    """The dtype of matrix products: as asked, else bf16 where products of this width are so much faster in it that a
    step is, too. It costs digits, which small models feel."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16
    gain = _seconds(width, torch.float32) / _seconds(width, torch.bfloat16)
    return torch.bfloat16 if gain > LEAST_GAIN else torch.float32


def _seconds(width: int, dtype: torch.dtype) -> float:
    """Best of five products (2048, width) x (width, 4 width), the size of a step's (small ones mislead), with the casts
    from and to float32 that a step makes."""
    left, right = torch.ones(2048, width), torch.ones(width, 4 * width)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        (left.to(dtype) @ right.to(dtype)).float()
        times.append(time.perf_counter() - begin)
    return min(times)


def has_compiler() -> bool:
    """Whether torch.compile can find a C++ compiler."""
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)


def choose_compile(wanted: Switch, step: Callable[[], Tensor], seconds_left: Callable[[float], float]) -> bool:
    """Whether to compile: as asked, else when it saves more time than it costs.

    `step` does the work of one step without changing anything; `seconds_left(t)` is how long the run takes at t
    seconds a step.
    """
    if wanted == "off":
        return False
    if not has_compiler():
        warn("no-compiler")
        return False
    if wanted == "on":
        return True
    step()
    begin = time.perf_counter()
    step()
    left = seconds_left(time.perf_counter() - begin)
    pays = left * (1 - 1 / COMPILE_GAIN) > COMPILE_SECONDS
    if pays:
        say("compiling", seconds=round(COMPILE_SECONDS))
    return pays
