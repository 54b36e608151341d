"""What may be chosen for a method: learning rate, rank, targets, how many tokens stand in front.

What the user gave is not searched. The defaults are always among the choices and are tried first, so the best found is
never worse than they are, by the measure of the search.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from ingot.adapt.targets import ALL_LINEAR, HEADS, candidates
from ingot.adapt.wrapped import features, is_linear
from ingot.core.options import Options
from ingot.model.network import Network
from ingot.train.method import IN_FRONT, LOW_RANK, RANK, tokens_in_front

Given = TypeVar("Given", bound=Options)

Value = float | int | str

WIDTH = 10.0
"""The learning rate is searched from a tenth of the default to ten times it."""

RANKS = (4, 8, 16, 32, 64)
TOKENS = (4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Between:
    """A number between two, tried evenly over its logarithm, or over itself; a whole one where `whole`."""

    low: float
    high: float
    default: float | None
    log: bool = True
    whole: bool = False


@dataclass(frozen=True)
class Among:
    """One of some values."""

    values: tuple[Value, ...]
    default: Value | None


Choice = Between | Among
Space = dict[str, Choice]
"""Choices by the option's name, with a dot where it is in a group."""


def search_space(method: str, rate: float, network: Network, room: int, given: Iterable[str]) -> Space:
    """What is searched for a method whose default learning rate this is, with `room` for tokens in front; options in
    `given` are left as they are."""
    found: Space = {"lr": Between(rate / WIDTH, rate * WIDTH, rate)}
    if method in LOW_RANK:
        limit = _smallest(network)
        found["rank"] = Among(tuple(rank for rank in RANKS if rank <= limit or rank == RANK), RANK)
        found["lora.targets"] = Among(target_choices(network), ALL_LINEAR)
    if method in IN_FRONT:
        default = tokens_in_front(network.config.max_length)
        tokens = {count for count in TOKENS if count <= room} | {default}
        found["prompt.tokens"] = Among(tuple(sorted(tokens)), default)
    fixed = set(given)
    return {name: choice for name, choice in found.items() if name not in fixed and not _is_alone(choice)}


def target_choices(network: nn.Module) -> tuple[str, ...]:
    """All matrices; those of attention; the others: by the ends of their names, where these tell them apart."""
    inside: dict[str, None] = {}
    outside: dict[str, None] = {}
    for name in _matrices(network):
        parent, _, end = name.rpartition(".")
        is_attention = any(word in parent.lower() for word in ("attn", "attention"))
        (inside if is_attention else outside)[end] = None
    shared = inside.keys() & outside.keys()
    parts = [",".join(end for end in ends if end not in shared) for ends in (inside, outside)]
    return (ALL_LINEAR, *(part for part in parts if part)) if all(parts) else (ALL_LINEAR,)


def _matrices(network: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in candidates(network).items() if is_linear(module) and name not in HEADS}


def _smallest(network: nn.Module) -> int:
    """The largest rank that every matrix has room for."""
    return min(min(features(module)) for module in _matrices(network).values())


def _is_alone(choice: Choice) -> bool:
    return isinstance(choice, Among) and len(choice.values) == 1


def defaults(space: Space) -> dict[str, Value]:
    """Of the choices that have one."""
    return {name: choice.default for name, choice in space.items() if choice.default is not None}


def given_options(options: Options) -> set[str]:
    """Names of the options that the user set, with a dot where one is in a group."""
    found = set[str]()
    for name in options.model_fields_set:
        value = getattr(options, name)
        found |= {f"{name}.{inner}" for inner in given_options(value)} if isinstance(value, Options) else {name}
    return found


def changed(options: Given, values: dict[str, Value]) -> Given:
    """The options with some values in place of theirs."""
    update: dict[str, Any] = {}
    for name, value in values.items():
        group, _, inner = name.rpartition(".")
        if group:
            before: Options = update.get(group, getattr(options, group))
            update[group] = changed(before, {inner: value})
        else:
            update[name] = value
    return options.model_copy(update=update)


def shown(values: dict[str, Value]) -> str:
    """The values in a line."""
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in values.items())  # fmt: skip
