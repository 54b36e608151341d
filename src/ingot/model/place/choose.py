"""From what the user says and what the machine has to a plan: asked for, measured, told."""

from __future__ import annotations

import torch

from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir
from ingot.model.available import free_bytes, resident_bytes
from ingot.model.config import ModelConfig
from ingot.model.network import form_of
from ingot.model.place.layout import Layout
from ingot.model.place.measure import device_speed, disk_speed
from ingot.model.place.plan import CPU, Placement, Speeds, check_whole, decide, tell
from ingot.model.place.sizes import WRITTEN_AT_ONCE, sizes_of
from ingot.model.place.wish import Wish

HEADROOM = 0.9
"""Of what is free, what a plan may take: others on the machine want some, too."""

KV_TOKENS = 4096
"""Tokens of one long text, or of several short ones, that a plan leaves room for at least, where the window is not
shorter. An encoder-decoder's texts do not wait for each other, and have sources besides."""

GROWTH = 8
"""How much larger weights can become in memory than in files: four bits to 32."""


def choose(base: ModelDir, wish: Wish, dtype: torch.dtype | None, weights: str = "dense") -> str | Placement:
    """The device that all of a directory goes to, or where its layers go: a plan, told with its predicted speed.

    Raises `place-unknown` where the system does not say how much memory is free,
    `not-a-decoder` where only a decoder can be spread, and `place-too-large` before anything is allocated.
    """
    config = ModelConfig.read(base.config, base.path / "config.json")
    tokens = cached_tokens(config)
    if wish.whole is not None:
        if weights == "dense" or (weights == "auto" and "quantization_config" not in base.config):
            _check(base, config, wish, dtype, tokens)  # of packed weights `packed_size` knows more
        return wish.whole
    layout = Layout.of(base) if form_of(config) == "decoder" else None
    free, sizes = _free(wish), sizes_of(base, config, dtype, tokens, layout)
    placement = decide(free, sizes)
    if placement.is_spread and layout is None:
        raise fail("not-a-decoder", path=base.path, family=config.model_type)
    tell(placement, sizes, _measure(placement, free, layout, dtype), free)
    return placement


def cached_tokens(config: ModelConfig) -> int:
    """Tokens that the caches must hold at least."""
    tokens = {
        "decoder": min(config.max_length, KV_TOKENS),
        "encoder-decoder": 2 * WRITTEN_AT_ONCE * config.max_length,
        "encoder": 0,
    }
    return tokens[form_of(config)]


def _measure(placement: Placement, free: dict[str, float], layout: Layout | None, dtype: torch.dtype | None) -> Speeds:
    devices = {device: device_speed(device, free[device]) for device in placement.taken}
    if layout is None or not placement.on_disk:
        return Speeds(devices)
    return Speeds(devices, disk_speed(w for layer in placement.on_disk for w in layout.weights(layer, dtype)))


def _check(base: ModelDir, config: ModelConfig, wish: Wish, dtype: torch.dtype | None, tokens: int) -> None:
    """Whether all of it fits one device, or so many cards; counted only where that is not plain to see."""
    device = torch.device(wish.whole or CPU)
    if device.type not in (CPU, "cuda"):
        return
    cards = wish.ranks if device.type == "cuda" else 1
    each = free_bytes(device)
    free = None if each is None else cards * each
    stored = sum(entry.end - entry.begin for entry in base.tensors.values())
    if free is not None and GROWTH * stored > free:
        check_whole(str(wish.whole), free, sizes_of(base, config, dtype, tokens, None))


def _free(wish: Wish) -> dict[str, float]:
    """Bytes that may be taken of each device, cards first. A limit on "cpu" is one on the whole process."""
    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    found: dict[str, float] = {}
    for device in [*cards, CPU]:
        limit = wish.limits.get(device)
        if wish.limits and limit is None:
            continue
        free = free_bytes(torch.device(device))
        if free is None and limit is None:
            raise fail("place-unknown")
        room = [] if free is None else [HEADROOM * free]
        room += [] if limit is None else [limit - (resident_bytes() if device == CPU else 0.0)]
        found[device] = min(room)
    return found
