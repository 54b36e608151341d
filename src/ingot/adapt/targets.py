"""Which modules of a network an adapter is put on, by PEFT's rules.

`modules`: ends of names, "all-linear", or one regular expression for whole names. `exclude` likewise. `layers`: numbers
of layers, found behind `layers_pattern` where that is given. `save`: modules that are trained whole, as copies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ingot.adapt.wrapped import is_linear, layers
from ingot.core.errors import fail, nearest
from ingot.model.decoder import Decoder
from ingot.model.families import DECODERS
from ingot.model.held import is_held

ALL_LINEAR = "all-linear"

HEADS = {family.head for family in DECODERS.values()}
"""What families call their output head."""

Names = tuple[str, ...] | str
"""Ends of names, or a regular expression."""


@dataclass(frozen=True)
class Targets:
    modules: Names
    exclude: Names = ()
    layers: tuple[int, ...] = ()
    layers_pattern: tuple[str, ...] = ()
    save: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str, save: str = "") -> Targets:
        """From a command line: names with commas."""
        return cls(_words(text), save=_words(save))

    @classmethod
    def read(cls, config: dict[str, Any], path: Path) -> Targets:
        """From an adapter_config.json. Raises `adapter-not-supported`."""
        modules, exclude = (_names(config, key, path) for key in ("target_modules", "exclude_modules"))
        if config.get("target_modules") is None:
            raise fail("adapter-not-supported", path=path, key="target_modules", found="null")
        layers, pattern = config.get("layers_to_transform"), config.get("layers_pattern")
        return cls(
            modules,
            exclude,
            (layers,) if isinstance(layers, int) else tuple(layers or ()),
            (pattern,) if isinstance(pattern, str) and pattern else tuple(pattern or ()),
            tuple(config.get("modules_to_save") or ()),
        )

    def keys(self) -> dict[str, Any]:
        """As PEFT writes them."""
        modules = self.modules if isinstance(self.modules, str) else list(self.modules)
        return {
            "target_modules": ALL_LINEAR if self.modules in ((ALL_LINEAR,), ALL_LINEAR) else modules,
            "exclude_modules": (self.exclude if isinstance(self.exclude, str) else list(self.exclude)) or None,
            "layers_to_transform": list(self.layers) or None,
            "layers_pattern": list(self.layers_pattern) or None,
            "modules_to_save": list(self.save) or None,
        }

    def select(self, network: nn.Module) -> list[str]:
        """Names of the modules to wrap. Raises `no-target-modules` for a name that matches nothing."""
        found = candidates(network)
        if self.modules in ((ALL_LINEAR,), ALL_LINEAR):
            chosen = [name for name in found if is_linear(found[name]) and name not in HEADS]
        else:
            chosen = [name for name in found if matches(self.modules, name)]
            self._check(found)
        chosen = [name for name in chosen if not matches(self.exclude, name) and not self._is_saved(name)]
        if self.layers and not isinstance(self.modules, str):
            chosen = [name for name in chosen if self._layer(name) in self.layers]
        if not chosen and self.modules:
            raise fail("no-target-modules", targets=_list(self.modules), known=_ends(found))
        return chosen

    def saved(self, network: nn.Module) -> list[str]:
        """Names of the modules that are trained whole. Raises `no-target-modules`."""
        found = candidates(network, every=True)
        for name in self.save:
            if not any(module.endswith(name) for module in found):
                raise fail("no-target-modules", targets=name, known=_near(name, found))
        return [name for name in found if any(name.endswith(end) for end in self.save)]

    def _check(self, found: dict[str, nn.Module]) -> None:
        for target in (self.modules,) if isinstance(self.modules, str) else self.modules:
            names = self.modules if isinstance(self.modules, str) else (target,)
            if not any(matches(names, name) for name in found):
                raise fail("no-target-modules", targets=target, known=_near(target, found))

    def _is_saved(self, name: str) -> bool:
        return any(re.match(rf"(^|.*\.){re.escape(module)}($|\..*)", name) for module in self.save)

    def _layer(self, name: str) -> int | None:
        patterns = [rf"(?:^|.*?\.){pattern}\.(\d+)\." for pattern in self.layers_pattern] or [r".*?\.[^.]*\.(\d+)\."]
        match = next((match for pattern in patterns if (match := re.match(pattern, name))), None)
        return int(match.group(1)) if match else None


def candidates(network: nn.Module, every: bool = False) -> dict[str, nn.Module]:
    """Modules that can be wrapped, by plain name: products and embeddings, or (`every`) all that hold weights.

    A tied head, which has no module of its own, is among them under its name; wrapping it unties it.
    """
    found = layers(network)
    kept = {
        name: module
        for name, module in found.items()
        if (_holds_weights(module) if every else is_linear(module) or _is_embedding(module))
    }
    if isinstance(network, Decoder) and network.config.tie_embeddings:
        kept[network.family.head] = network.embedding
    return kept


def _holds_weights(module: nn.Module) -> bool:
    return is_held(module) or any(True for _ in module.parameters())


def _is_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding) or hasattr(module, "num_embeddings")


def matches(names: Names, name: str) -> bool:
    """Whether a module is meant: by a regular expression for its whole name, or by the end of it."""
    if isinstance(names, str):
        return re.fullmatch(names, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in names)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _names(config: dict[str, Any], key: str, path: Path) -> Names:
    found = config.get(key)
    if found is None:
        return ()
    if isinstance(found, str):
        try:
            re.compile(found)
        except re.error as error:
            raise fail("adapter-not-supported", path=path, key=key, found=f"{found!r} ({error})") from None
        return ALL_LINEAR if found.lower() == ALL_LINEAR else found
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise fail("adapter-not-supported", path=path, key=key, found=repr(found))
    return tuple(sorted(found))


def _list(names: Names) -> str:
    return names if isinstance(names, str) else ", ".join(names)


def _ends(found: dict[str, nn.Module]) -> str:
    return ", ".join(sorted({name.rpartition(".")[2] for name in found}))


def _near(name: str, found: dict[str, nn.Module]) -> str:
    return nearest(name, {name.rpartition(".")[2] for name in found})
