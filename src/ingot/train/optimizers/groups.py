"""Which parameters train, and how they are grouped: matrices, the head, embeddings, vectors.

Matrices and the head are decayed, embeddings and vectors (norms, biases) are not: pulling a norm's scale or a rare
token's row towards zero is not regularisation. Muon takes only the matrices, because orthogonalising makes sense where
a matrix maps one space of activations to another, not where its rows are looked up or compete in a softmax.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from torch import nn

from ingot.adapt.before import Part
from ingot.adapt.lora import LoRAEmbedding
from ingot.core.errors import fail, nearest
from ingot.core.progress import say

Kind = Literal["matrix", "head", "embedding", "vector"]
DECAYED = ("matrix", "head")


@dataclass(frozen=True)
class Group:
    """Parameters that are treated alike, by name."""

    kind: Kind
    parameters: dict[str, nn.Parameter]
    decay: float

    @property
    def size(self) -> int:
        """Numbers in it."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def pattern(self) -> str:
        """The names in it with layer numbers as *, each once."""
        return ", ".join(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in self.parameters))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[Group]:
    """The parameters that train, in groups; a group with nothing in it is left out."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding | Part | LoRAEmbedding)]
    embeddings = {id(parameter) for module in tables for parameter in module.parameters(recurse=False)}
    head = id(getattr(model, "head_weight", None))
    found: dict[Kind, dict[str, nn.Parameter]] = {"matrix": {}, "head": {}, "embedding": {}, "vector": {}}
    for name, parameter in trainable(model).items():
        found[_kind(parameter, embeddings, head)][name] = parameter
    decays = {kind: weight_decay if kind in DECAYED else 0.0 for kind in found}
    return [Group(kind, parameters, decays[kind]) for kind, parameters in found.items() if parameters]


def split_groups(groups: list[Group], numbers: int) -> list[list[Group]]:
    """The same parameters in parts of about so many numbers, each kind apart."""
    parts: list[list[Group]] = []
    for group in groups:
        part: dict[str, nn.Parameter] = {}
        for name, parameter in group.parameters.items():
            if part and sum(p.numel() for p in part.values()) + parameter.numel() > numbers:
                parts.append([replace(group, parameters=part)])
                part = {}
            part[name] = parameter
        parts.append([replace(group, parameters=part)])
    return parts


def _kind(parameter: nn.Parameter, embeddings: set[int], head: int) -> Kind:
    if id(parameter) in embeddings:
        return "embedding"
    if parameter.dim() < 2 or 1 in parameter.shape:
        return "vector"
    return "head" if id(parameter) == head else "matrix"


def tell_groups(groups: list[Group], methods: dict[Kind, str], rate: float) -> None:
    """Print each group: what it holds, who updates it, its learning rate and decay."""
    for group in groups:
        say("parameter-group", kind=group.kind, count=len(group.parameters), size=f"{group.size:,}",
            method=methods[group.kind], lr=f"{rate:.2g}", decay=f"{group.decay:g}", names=group.pattern)  # fmt: skip


def freeze(model: nn.Module, patterns: str) -> int:
    """Stop parameters from training whose names match one of the comma-separated patterns (`*` stands for anything).

    Returns how many numbers that are. Raises `freeze-matches-nothing` by pattern, `all-frozen` when nothing is left.
    """
    frozen = 0
    for pattern in (text.strip() for text in patterns.split(",") if text.strip()):
        matching = [name for name in trainable(model) if fnmatchcase(name, pattern)]
        if not matching:
            names = [re.sub(r"\.\d+\.", ".*.", name) for name in trainable(model)]
            raise fail("freeze-matches-nothing", pattern=pattern, nearest=nearest(pattern, set(names)))
        for name in matching:
            parameter = model.get_parameter(name)
            frozen += parameter.numel()
            parameter.requires_grad_(False)
    if patterns and not trainable(model):
        raise fail("all-frozen", patterns=patterns)
    return frozen
