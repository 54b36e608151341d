"""Which layer lies where, and how fast that will be: decided from sizes alone, before anything is allocated.

The layers keep their order, so that what passes between places is little: first the cards, then memory, the last ones
on disk. What is not a layer (embedding, final norm, head) lies at home, the first place that holds it. Layers on disk
are computed by the CPU, out of two buffers that take turns. Nothing here looks at the machine; `decide` is a function
of sizes and of how much is free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from ingot.core.errors import fail
from ingot.core.format import show_bytes
from ingot.core.language import text
from ingot.core.progress import say

CPU, DISK = "cpu", "disk"
BUFFERS = 2


@dataclass(frozen=True)
class Sizes:
    """Bytes. `home`: of what is not a layer; `layers`: of each; `stored`: of each in the files; `kv`: of each layer's
    keys and values, at least; `work`: of what a pass makes beside them; `loading`: of what reading the largest tensor
    takes, before there are caches and passes; `reading`: of what reading a layer takes beside its buffer; `head`: of
    the head, which every token reads. `used`: what share of a layer a token works on (experts); `heap`:
    what an allocator takes besides, as a share."""

    home: int
    layers: tuple[int, ...]
    stored: tuple[int, ...]
    kv: int
    work: int
    loading: int
    reading: int
    head: int
    used: float = 1.0
    heap: float = 0.0

    @property
    def total(self) -> int:
        """On one device."""
        return self.peak(self.home + sum(self.layers), len(self.layers))

    @property
    def least(self) -> int:
        """Memory below which nothing helps: all layers on disk, where that is less."""
        return min(self.total, self.peak(self.home, len(self.layers), self.layers))

    def peak(self, held: int, cached: int, on_disk: Sequence[int] = ()) -> int:
        """Of a device that holds so many bytes of weights, the caches of so many layers, and computes these others."""
        buffers = BUFFERS * max(on_disk) + self.reading if on_disk else 0
        return round((1 + self.heap) * (held + max(cached * self.kv + self.work + buffers, self.loading)))


@dataclass(frozen=True)
class Placement:
    """`home`: where embedding and head lie; `layers`: a device or "disk" for each; `taken`: bytes of each device, with
    the least that keys and values need; `cache`: how much these may grow to, on all devices together."""

    home: str
    layers: tuple[str, ...]
    taken: dict[str, int]
    cache: int

    def device(self, layer: int) -> torch.device:
        """Where a layer is computed, and where its keys and values lie."""
        return torch.device(CPU if self.layers[layer] == DISK else self.layers[layer])

    @property
    def on_disk(self) -> list[int]:
        return [number for number, place in enumerate(self.layers) if place == DISK]

    @property
    def is_spread(self) -> bool:
        return set(self.layers) != {self.home}


def decide(free: Mapping[str, float], sizes: Sizes) -> Placement:
    """Fill the devices in the order given; what is left over goes to disk where there is a "cpu" to compute it.

    Raises `place-too-large`, which tells what was asked for and what there is.
    """
    home = next((device for device, room in free.items() if sizes.peak(sizes.home, 0) <= room), None)
    if home is None:
        raise _too_large(free, sizes)
    places: list[str] = []
    taken: dict[str, int] = {}
    for device, room in free.items():
        rest, held = sizes.layers[len(places) :], sizes.home if device == home else 0
        count = _fitting(rest, held, room, sizes, spills=device == CPU)
        if device == home or (rest and (count or device == CPU)):
            on_disk = rest[count:] if device == CPU else ()
            taken[device] = sizes.peak(held + sum(rest[:count]), count + len(on_disk), on_disk)
        places += [device] * count
    places += [DISK] * (len(sizes.layers) - len(places))
    if any(taken[device] > free[device] for device in taken) or (DISK in places and CPU not in free):
        raise _too_large(free, sizes)
    return Placement(home, tuple(places), taken, len(places) * _cache(places, taken, free, sizes))


def _cache(places: list[str], taken: dict[str, int], free: Mapping[str, float], sizes: Sizes) -> int:
    """What each layer's keys and values may take: what is left of a device goes to the layers that it computes."""
    there = Counter(CPU if place == DISK else place for place in places)
    return sizes.kv + min(int((free[device] - taken[device]) / count) for device, count in there.items())


def _fitting(rest: Sequence[int], held: int, room: float, sizes: Sizes, spills: bool) -> int:
    """How many of the next layers a device holds beside what it holds already. Where it `spills` it also computes those
    that it does not hold."""
    for count in range(len(rest), 0, -1):
        on_disk = rest[count:] if spills else ()
        if sizes.peak(held + sum(rest[:count]), count + len(on_disk), on_disk) <= room:
            return count
    return 0


def check_whole(device: str, free: float | None, sizes: Sizes) -> None:
    """Refuse a model that one device cannot hold. Raises `place-too-large`."""
    if free is not None and sizes.total > free:
        raise _too_large({device: free}, sizes)


def _too_large(free: Mapping[str, float], sizes: Sizes) -> Exception:
    there = ", ".join(f"{device} {show_bytes(max(room, 0))}" for device, room in free.items())
    return fail("place-too-large", there=there, total=show_bytes(sizes.total), least=show_bytes(sizes.least),
                home=show_bytes(sizes.home), layers=len(sizes.layers), layer=show_bytes(max(sizes.layers)),
                kv=show_bytes(sizes.kv * len(sizes.layers)), work=show_bytes(sizes.work))  # fmt: skip


@dataclass(frozen=True)
class Speeds:
    """Bytes a second that were measured: reading each device's memory while multiplying, and reading layers from disk
    into the form they are computed in."""

    devices: dict[str, float]
    disk: float | None = None


def seconds_per_token(placement: Placement, sizes: Sizes, speeds: Speeds) -> float:
    """Of one text alone: every weight that a token uses is read once. Disk and memory are read side by side."""
    seconds = dict.fromkeys(speeds.devices, 0.0)
    seconds[placement.home] += sizes.head / speeds.devices[placement.home]
    for number, place in enumerate(placement.layers):
        device = CPU if place == DISK else place
        seconds[device] += sizes.used * sizes.layers[number] / speeds.devices[device]
    disk = sum(sizes.stored[number] for number in placement.on_disk) / (speeds.disk or 1.0)
    return sum(time for device, time in seconds.items() if device != CPU) + max(seconds.get(CPU, 0.0), disk)


def tell(placement: Placement, sizes: Sizes, speeds: Speeds, free: Mapping[str, float]) -> None:
    """Show the plan and its predicted speed."""
    for device, taken in placement.taken.items():
        say("place-device", device=device, taken=show_bytes(taken), free=show_bytes(free[device]),
            what=", ".join(_held(placement, device)))  # fmt: skip
    if placement.on_disk:
        size = sum(sizes.stored[number] for number in placement.on_disk)
        say("place-disk", what=", ".join(_held(placement, DISK)), size=show_bytes(size))
    measured = [f"{device} {show_bytes(speed)}/s" for device, speed in speeds.devices.items()]
    measured += [f"{DISK} {show_bytes(speeds.disk)}/s"] if speeds.disk else []
    say("place-speed", speed=f"{1 / seconds_per_token(placement, sizes, speeds):.3g}", measured=", ".join(measured))


def _held(placement: Placement, place: str) -> list[str]:
    """What lies in a place, in words."""
    found = [text("place-home")] if place == placement.home else []
    for other, run in groupby(range(len(placement.layers)), key=lambda number: placement.layers[number]):
        numbers = list(run)
        if other == place:
            one = len(numbers) == 1
            found.append(text("place-layer" if one else "place-layers", first=numbers[0], last=numbers[-1]))
    return found or [text("place-buffers")]
