"""Low-rank updates of parameters rather than layers (PEFT's `target_parameters`), as transformers 5 needs them for the
experts of Mixtral and Qwen3-MoE: it keeps all of a layer's experts in two tensors, `experts.gate_up_proj` (E, 2F, C)
and `experts.down_proj` (E, C, F). Here each expert has layers of its own, so such an update is taken apart when it is
read: expert e of E multiplies by rows e*R .. e*R+R of A (E*R, in) and columns e, e+E, e+2E .. of B (out, R*E); gate and
up share their A and halve B. Every other parameter is one layer's weight (`gate.weight`).

Written are layers, as transformers 4 has them, never parameters. PEFT turns these into parameters when it reads them,
rightly for plain LoRA on all of an expert's matrices where no layer without experts is among the targets
(`peft_fuses`); with root-of-rank scaling, IA3, or a dense layer, it computes something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from ingot.adapt.wrapped import is_linear, layers, plain_name, wrapped
from ingot.core.errors import fail, nearest
from ingot.core.model_dir import ModelDir
from ingot.model.families.moe import Experts
from ingot.model.weights import read_tensor

HALVES = {"gate_up_proj": (("w1", "w3"), ("gate_proj", "up_proj")), "down_proj": (("w2",), ("down_proj",))}
"""A tensor of transformers 5 -> the layers whose outputs lie in it one behind the other, as Mixtral and as Qwen name
them."""

DOWN, UP = "lora_A.weight", "lora_B.weight"


@dataclass(frozen=True)
class Target:
    """A parameter that is updated: its name in transformers 5, and the layers it is here, expert by expert. `module`:
    where PEFT's file has its tensors, which two parameters of one module share: the first is then its `base_layer`."""

    parameter: str
    module: str
    parts: tuple[tuple[str, ...], ...]

    @property
    def layers(self) -> list[str]:
        return [name for parts in self.parts for name in parts]


def targets(network: nn.Module, parameters: Sequence[str]) -> list[Target]:
    """The parameters that are meant, by the end of their names. Raises `no-target-modules` for one that is none."""
    there = {target.parameter: target for target in _all(network)}
    for wanted in parameters:
        if not any(_ends(name, wanted) for name in there):
            near = nearest(wanted, {".".join(name.split(".")[-2:]) for name in there})
            raise fail("no-target-modules", targets=wanted, known=near)
    chosen = [target for name, target in there.items() if any(_ends(name, wanted) for wanted in parameters)]
    both = [target.module for target in chosen]
    return [
        Target(target.parameter, f"{target.module}.base_layer", target.parts)
        if both.count(target.module) == 2 and target.parameter.endswith("gate_up_proj")
        else target
        for target in chosen
    ]


def taken_apart(
    network: nn.Module, parameters: Sequence[str], adapter: ModelDir, prefix: str
) -> dict[str, Callable[[], Tensor]]:
    """What an adapter's files hold under the names of layers here -> how it is read. Raises `wrong-shape`."""
    held: dict[str, Callable[[], Tensor]] = {
        name: partial(read_tensor, entry) for name, entry in adapter.tensors.items()
    }
    for target in targets(network, parameters) if parameters else ():
        names = [f"{prefix}{target.module}.{part}" for part in (DOWN, UP)]
        if not all(name in held for name in names):
            continue  # told of with all that is missing
        down_NI, up_ON = (held.pop(name)() for name in names)
        count = len(target.parts)
        if down_NI.shape[0] % count or up_ON.shape[1] != down_NI.shape[0]:
            shapes = {"found": list(up_ON.shape), "expected": [up_ON.shape[0], down_NI.shape[0]]}
            raise fail("wrong-shape", tensor=names[1], path=adapter.path, **shapes)
        downs, ups = down_NI.chunk(count), up_ON.unflatten(1, (-1, count)).unbind(-1)
        for down_RI, up_OR, parts in zip(downs, ups, target.parts, strict=True):
            for name, half_OR in zip(parts, up_OR.chunk(len(parts)), strict=True):
                held[f"{prefix}{name}.{DOWN}"] = partial(down_RI.clone)
                held[f"{prefix}{name}.{UP}"] = partial(half_OR.clone)
    return held


def peft_fuses(network: nn.Module, adapter: str, is_plain: bool) -> bool:
    """Whether PEFT gives our logits, as far as experts go. `is_plain`: LoRA without dropout or the root of the rank."""
    changed = {plain_name(name) for name, _ in wrapped(network, adapter)}
    of_experts = [target for target in _all(network) if len(target.parts) > 1]
    hit = [target for target in of_experts if changed & set(target.layers)]
    fused = {part for target in hit for name in target.layers for part in [name.rpartition(".")[2]]}
    dense = [name for name in changed if ".experts." not in name and name.rpartition(".")[2] in fused]
    return not hit or (is_plain and not dense and all(set(target.layers) <= changed for target in hit))


def _all(network: nn.Module) -> Iterator[Target]:
    """Every parameter that could be updated: the weight of each layer, experts as transformers 5 has them."""
    found = layers(network)
    for name, module in found.items():
        if isinstance(module, Experts):
            yield from _experts(name, len(module.experts), found)
        elif is_linear(module) and ".experts." not in name:
            yield Target(f"{_peer(name)}.weight", _peer(name), ((name,),))


def _experts(name: str, count: int, found: dict[str, nn.Module]) -> Iterator[Target]:
    module = f"{_peer(name)}.experts"
    for parameter, spellings in HALVES.items():
        halves = next(each for each in spellings if f"{name}.experts.0.{each[0]}" in found)
        parts = tuple(tuple(f"{name}.experts.{number}.{half}" for half in halves) for number in range(count))
        yield Target(f"{module}.{parameter}", module, parts)


def _peer(name: str) -> str:
    """A module's name in transformers 5."""
    return name.replace(".block_sparse_moe", ".mlp")


def _ends(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")
