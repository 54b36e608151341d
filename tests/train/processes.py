"""What several processes run in tests: `torchrun ... processes.py NAME ARGUMENT` calls one of the functions below.

Each raises where the processes together are not one alone, to the last bit; the first prints what they found.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import ingot
from ingot.core.errors import IngotError, fail
from ingot.data.pack import pack_documents
from ingot.data.read import Document
from ingot.train.account import Account
from ingot.train.checkpoint import Place
from ingot.train.corpus import Corpus, once
from ingot.train.distributed.shared_work import work_together
from ingot.train.distributed.sharing import Sharing
from ingot.train.distributed.slices import local, sliced_like, whole
from ingot.train.distributed.world import World
from ingot.train.names import Names
from ingot.train.optimizers import OPTIMIZERS, Optimizers
from ingot.train.settings import LoopOptions


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def verbs(world: World, path: str) -> None:
    """Run verbs one after the other; the codes of those that refused."""
    codes = []
    for verb, options in json.loads(Path(path).read_text()):
        try:
            getattr(ingot, verb)(**options)
            codes.append(None)
        except IngotError as error:
            codes.append(error.code)
    every = world.gather(codes)
    assert all(found == codes for found in every), every
    tell(world, codes)


SHAPES = [(7, 300), (5, 1001), (64, 64), (1, 5000), (2, 2600), (3, 30, 60), (300, 16), (40, 513), (12,), (4099,)]
"""Rows and columns that three processes cut unevenly, down to nothing for the last; blocks that several share."""

FUSED = {"adamw": range(len(SHAPES)), "muon": (3, 8, 9), "adamw8": ()}
"""What torch's fused AdamW updates, whose last bit depends on where a vector register ends: equal to rounding."""


class Pile(nn.Module):
    """Parameters of these shapes, cut along a dimension where they have it."""

    def __init__(self, mesh: Any = None, dim: int = 0) -> None:
        super().__init__()
        for number, shape in enumerate(SHAPES):
            made = noise(*shape, seed=number)
            if mesh is not None and (dim == 0 or len(shape) > 1):
                made = distribute_tensor(made, mesh, [Shard(dim if dim == 0 else len(shape) - 1)])
            self.register_parameter(f"p{number}", nn.Parameter(made))


def take_step(pile: Pile, optimizers: Optimizers, step: int) -> None:
    for number, parameter in enumerate(pile.parameters()):
        gradient = noise(*SHAPES[number], seed=100 * step + number) * 10.0 ** (step % 3)
        parameter.grad = sliced_like(gradient, parameter)
    optimizers.step(0.01)


def optimizers(world: World, _: str) -> None:
    """Every optimiser on slices of any cut, and on copies, is that on whole tensors; so is its state, which goes out
    whole, comes in whole on any number of processes, and goes on."""
    mesh = init_device_mesh("cpu", (world.size,))
    for method in OPTIMIZERS:
        options = LoopOptions(optimizer=method)
        for dim in (0, 1, None):
            alone, cut = Pile(), Pile(mesh if dim is not None else None, dim or 0)
            one, many = Optimizers(alone, options), Optimizers(cut, options)
            for step in range(1, 4):
                take_step(alone, one, step)
                take_step(cut, many, step)
            compare(method, f"{dim} weights", alone.state_dict(), cut.state_dict())
            saved = {name: whole(value).clone() for name, value in many.state()}
            compare(method, f"{dim} state", dict(one.state()), saved)
            many = Optimizers(cut, options)
            many.load(saved)
            take_step(alone, one, 4)
            take_step(cut, many, 4)
            compare(method, f"{dim} resumed", alone.state_dict(), cut.state_dict())
            if world.size > 1 and dim is not None:
                assert many.bytes < 0.75 * one.bytes, (method, dim, many.bytes, one.bytes)
    tell(world, "equal")


def compare(method: str, what: str, one: dict[str, Tensor], many: dict[str, Tensor]) -> None:
    fused = {f"p{number}" for number in FUSED[method]}
    assert one.keys() == many.keys(), (method, what)
    for name, tensor in one.items():
        found = whole(many[name])
        assert found.dtype == tensor.dtype, (method, what, name)
        allowed = 1e-6 * float(tensor.abs().max()) if name.rpartition(".")[2] in fused else 0.0
        difference = float((found.float() - tensor.float()).abs().max())
        assert difference <= allowed, (method, what, name, difference)


def shared_work(world: World, _: str) -> None:
    """Each piece of work is done once, by one process; all get their part of it."""
    mesh, calls = init_device_mesh("cpu", (world.size,)), list[tuple[int, ...]]()

    def work(tensor: Tensor) -> Tensor:
        calls.append(tuple(tensor.shape))
        return tensor.flip(0) * 2

    wholes = [noise(*shape, seed=number) for number, shape in enumerate(SHAPES[: world.size])]
    for dim in (0, 1):
        cut = [distribute_tensor(tensor, mesh, [Shard(dim)]) for tensor in wholes]
        likes = [*cut[:-1], wholes[-1]]
        found = work_together([local(tensor) for tensor in likes], likes, work)
        for part, like, tensor in zip(found, likes, wholes, strict=True):
            assert torch.equal(part, local(sliced_like(tensor.flip(0) * 2, like)))
    counts = world.gather(len(calls))
    assert counts == [2] * world.size, counts
    tell(world, "equal")


def sums(world: World, _: str) -> None:
    """Gradients are added up over the processes that have one; where none has, there is none."""
    parameters = [nn.Parameter(torch.zeros(2, 3)) for _ in range(3)]
    parameters[0].grad = torch.full((2, 3), 1.0 + world.rank)
    parameters[1].grad = torch.ones(2, 3) if world.rank == 1 else None
    Sharing(world, summed=tuple(parameters)).add_up()
    found = [None if p.grad is None else p.grad.unique().tolist() for p in parameters]
    tell(world, world.gather(found))


def packing(world: World, folder: str) -> None:
    """A corpus is packed once on each machine, all have the same rows, and what ends one process ends all."""
    calls = list[int]()

    def pack(directory: Path, error: BaseException | None = None, other: int = 0) -> Corpus:
        calls.append(world.rank)
        if error is not None and world.rank == world.size - 1:
            raise error
        rows, names = [[number + other * world.machine] * 9 for number in range(50)], Names()
        pack_documents(rows, 16, eos=0, directory=directory)
        assert len(list(names.noting(Document("", "a.txt", number) for number in range(50)))) == 50
        (directory / "a.txt").touch()
        return Corpus.finish(Account(directory / "a.txt", True), names, ["held"], directory)

    found = once(world, Place(Path(folder) / "good"), pack)
    assert str(found.rows.ids.filename) == f"{folder}/good/rows-{world.machine}/ids.bin"  # type: ignore[attr-defined]
    assert found.names(7) == "a.txt:7"
    batches = world.gather(found.rows.batch(0, 8, 3).ids_BT.tolist())
    assert batches == batches[:1] * world.size
    leaders = [rank for ranks in world.gather(calls) for rank in ranks]
    made = [partial(pack, other=1), partial(pack, error=fail("empty-corpus", path="x")),
            partial(pack, error=OSError("lost"))]  # fmt: skip
    ends = [end_of(world, Path(folder) / f"bad-{number}", work) for number, work in enumerate(made)]
    tell(world, {"leaders": leaders, "machines": world.machines, "ends": world.gather(ends)})


def end_of(world: World, place: Path, pack: Any) -> str:
    """How a process ends, and whether it is to tell the user why."""
    try:
        with Place(place).unless_refused(resumed=False, is_first=world.is_first):
            once(world, Place(place), pack)
    except IngotError as error:
        return f"{error.code} {error.details} {'heard of' if error.is_told else 'told'}"
    except BaseException as error:
        return repr(error)
    return "well"


def dying(world: World, folder: str) -> None:
    """The process that packs is killed."""

    def pack(directory: Path) -> Corpus:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    once(world, Place(Path(folder) / "place"), pack)


def start(processes: int, work: str, argument: Path | str = "-") -> Any:
    """What the first of several processes says last."""
    done = run(processes, work, argument)
    assert done.returncode == 0, done.stderr[:6000]
    return json.loads(done.stdout.splitlines()[-1])


def run(processes: int, work: str, argument: Path | str = "-") -> subprocess.CompletedProcess[str]:
    """Start one of the functions above on so many processes, and wait for their end."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
             str(Path(__file__)), work, str(argument)]  # fmt: skip
    return subprocess.run(words, capture_output=True, text=True, timeout=600)


def tell(world: World, found: Any) -> None:
    if world.is_first:
        print(json.dumps(found), flush=True)


WORK = {
    "verbs": verbs,
    "optimizers": optimizers,
    "shared_work": shared_work,
    "sums": sums,
    "packing": packing,
    "dying": dying,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "packing":  # the last process is on a machine of its own
        os.environ["GROUP_RANK"] = str(int(os.environ["RANK"]) // (int(os.environ["WORLD_SIZE"]) - 1))
    WORK[sys.argv[1]](World.here(), sys.argv[2])
