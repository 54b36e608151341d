"""What a network is made of, read from a Hugging Face config.json.

`ModelConfig` holds what every family has and the rest of the package asks for; a family's own file adds its fields and
reads its keys (`ingot.model.families`). Both the v4 keys (`rope_theta`, `rope_scaling`) and the v5 key
(`rope_parameters`) are read. A key that would change the result and that we do not compute is refused by name, never
ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ingot.core.errors import fail

Json = dict[str, Any]


@dataclass(frozen=True)
class Rope:
    """Rotary positions. `scaling` names the method; the numbers below it belong to one method or another.

    `share`: the part of each head that is rotated. `amplitude` multiplies cos and sin (YaRN, LongRoPE).
    `original_length`: tokens the model knew before it was extended.
    """

    theta: float
    scaling: str = "default"
    share: float = 1.0
    factor: float = 1.0
    amplitude: float = 1.0
    original_length: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()

    @property
    def depends_on_length(self) -> bool:
        """Whether the angles of early tokens change once a sequence outgrows `original_length`."""
        return self.scaling in {"dynamic", "longrope"}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shapes and choices that every family has. Lengths in tokens; `windows[i]` is layer i's sliding window, None for
    all; `ropes[i]` its rotary positions, None for none; `prefix_lm`: a prompt is read in both directions."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_length: int
    norm_eps: float
    tie_embeddings: bool
    activation: str
    windows: tuple[int | None, ...]
    ropes: tuple[Rope | None, ...]
    dropout: float = 0.0
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    alibi: bool = False
    causal: bool = True
    prefix_lm: bool = False

    @classmethod
    def read(cls, config: Json, path: Path) -> ModelConfig:
        """Read config.json's content; `path` is named in errors."""
        from ingot.model.families import FAMILIES  # each family builds on this class

        kind = config["model_type"]
        if kind not in FAMILIES:
            raise fail("unknown-family", path=path, found=kind, known=", ".join(FAMILIES))
        try:
            found = FAMILIES[kind].read(config)
        except KeyError as error:
            raise fail("missing-config-key", path=path, key=error.args[0]) from error
        except RefusedKeyError as error:
            raise fail("config-not-supported", path=path, key=error.key, found=repr(error.found)) from error
        found = replace(_with_dynamic_window(found), prefix_lm=_reads_both_ways(found, config, path))
        found.check(path)
        return found

    def check(self, path: Path) -> None:
        """Shapes that fit each other."""
        for reason in self.misfits():
            raise fail("config-does-not-fit", path=path, reason=reason)

    def misfits(self) -> list[str]:
        """What is wrong with the shapes, in words."""
        found = []
        if self.num_heads % self.num_kv_heads:
            found.append(f"{self.num_heads} heads are not a multiple of {self.num_kv_heads} key-value heads")
        for rope in set(self.ropes) - {None}:
            assert rope is not None
            width = int(self.head_dim * rope.share)
            if width % 2:
                found.append(f"rotary positions need an even head_dim, not {width}")
            for factors in (rope.short_factors, rope.long_factors):
                if rope.scaling == "longrope" and len(factors) != width // 2:
                    found.append(f"longrope needs {width // 2} factors a list, not {len(factors)}")
        return found

    @property
    def crossing(self) -> int | None:
        """A length at which the positions of early tokens change, so that no sequence can be continued across it from
        cached keys; None where there is none."""
        return min((rope.original_length for rope in self.ropes if rope and rope.depends_on_length), default=None)


def _with_dynamic_window(found: ModelConfig) -> ModelConfig:
    """Dynamic NTK counts from `max_position_embeddings`, which therefore stays the original length in configs that use
    it; the window is that times the factor."""
    factors = [rope.factor for rope in found.ropes if rope and rope.scaling == "dynamic"]
    return replace(found, max_length=round(found.max_length * max(factors))) if factors else found


PREFIX_LM = "prefix_lm"
"""Our own key of config.json: the decoder was trained to read a prompt in both directions. Other tools ignore it, keep
it when they write the config again, and read from left to right."""


def _reads_both_ways(found: ModelConfig, config: Json, path: Path) -> bool:
    """What our own key says; only a decoder can have it."""
    if config.get(PREFIX_LM) not in ((None, False, True) if found.causal else (None, False)):
        raise fail("config-not-supported", path=path, key=PREFIX_LM, found=repr(config[PREFIX_LM]))
    return bool(config.get(PREFIX_LM))


class RefusedKeyError(Exception):
    """A config key whose value we do not compute."""

    def __init__(self, key: str, found: object) -> None:
        super().__init__(key)
        self.key = key
        self.found = found


def only(config: Mapping[str, Any], key: str, *allowed: object) -> None:
    """Refuse a key that is present with a value other than those we compute."""
    if key in config and config[key] not in allowed:
        raise RefusedKeyError(key, config[key])


T = TypeVar("T")


def optional(config: Mapping[str, Any], key: str, kind: Callable[[Any], T]) -> T | None:
    """A key's value, or None where it is absent or null."""
    return None if config.get(key) is None else kind(config[key])


def choose(config: Mapping[str, Any], key: str, names: Mapping[str, str], default: str | None = None) -> str:
    """A key's value by our own name for it; another is refused."""
    found = config.get(key, default)
    if found not in names:
        raise RefusedKeyError(key, found)
    return names[found]


ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
}
"""Hugging Face's names of activations to ours."""


def activation(config: Mapping[str, Any], key: str = "hidden_act", default: str | None = None) -> str:
    """Which activation a config names."""
    return choose(config, key, ACTIVATIONS, default)
