"""What a user says about where a model is to run: `--place`.

    cpu, cuda, cuda:1       all of it there (any device that torch knows)
    2xcpu, 2xcuda           split over so many processes, each on a card of its own (`ingot.model.ranks`)
    auto                    over all cards, then memory, then disk, as much of each as is free
    cuda=8GiB,cpu=4GiB      over these, at most so much of each, then disk

"cuda" alone is the first card.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch

from ingot.core.errors import IngotError, fail
from ingot.core.format import parse_bytes


@dataclass(frozen=True)
class Wish:
    """`whole`: the device that all is to lie on, or the kind of it where there are `ranks` of them; without one the
    model is spread, at most `limits` on the devices that have one, and on no others where there are any."""

    whole: str | None = None
    ranks: int = 1
    limits: dict[str, int] = field(default_factory=dict)


def parse_place(place: str) -> Wish:
    """Read it. Raises `bad-place` naming what is wrong, `place-no-card`."""
    if place == "auto":
        return Wish()
    many = re.fullmatch(r"([0-9]+)x(cpu|cuda)", place)
    if many is not None:
        return _split(place, int(many[1]), many[2])
    if "=" not in place:
        return Wish(whole=_device(place, place))
    limits: dict[str, int] = {}
    for part in place.split(","):
        name, _, size = part.partition("=")
        device = _device(name.strip(), place)
        if device in limits or (device != "cpu" and not device.startswith("cuda:")):
            raise fail("bad-place", found=place, part=part.strip())
        try:
            limits[device] = parse_bytes(size)
        except IngotError:
            raise fail("bad-place", found=place, part=part.strip()) from None
    return Wish(limits=limits)


def _split(place: str, ranks: int, kind: str) -> Wish:
    if ranks < 2:
        raise fail("bad-place", found=place, part=place)
    if kind == "cuda" and ranks > torch.cuda.device_count():
        raise fail("place-no-card", found=place, count=torch.cuda.device_count())
    return Wish(whole=kind, ranks=ranks)


def _device(name: str, place: str) -> str:
    """A device's full name, "cuda:0" for "cuda", which must be there."""
    number, count = name.partition(":")[2] or "0", torch.cuda.device_count()
    if name.startswith("cuda") and number.isdigit() and int(number) >= count:
        raise fail("place-no-card", found=name, count=count)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # no such device, or torch built without it
        raise fail("bad-place", found=place, part=name) from None
    return f"cuda:{device.index or 0}" if device.type == "cuda" else str(device)
