"""What a model directory fixes about writing: what an answer begins behind, what it must and may not say, what ends it.

generation_config.json speaks first, config.json where that is silent: what transformers' `generate` does with these
keys is done here too. Of how tokens are drawn, the temperature is read (from generation_config.json alone) and holds
where a request names none; the rest is asked for with each request. A setting that no request can ask for is listed in
`ignored`, one that a request has to ask for in `undrawn`, so that both can be told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir, read_json

NAME = "generation_config.json"

NEUTRAL: dict[str, tuple[object, ...]] = {
    "num_beams": (1,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ([], {}),
}
"""Settings that change an answer and that nobody follows here, with the values that change nothing."""

DRAWING: dict[str, tuple[object, ...]] = {
    "top_k": (0,),
    "top_p": (1,),
    "min_p": (0,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "repetition_penalty": (1,),
}
"""Settings by which transformers draws tokens beside the temperature, with the values that change nothing."""


@dataclass(frozen=True)
class Generation:
    """eos_ids: tokens that end an answer. start_id: what an encoder-decoder's answer begins behind. forced_first: its
    first token; forced_last: the last one where it may grow no longer. banned_ids: tokens never drawn. ignored: names
    of settings that are not followed. temperature: what holds where a request names none, None where nothing is said;
    undrawn: names of settings beside it that are followed only where a request asks."""

    eos_ids: frozenset[int]
    start_id: int | None = None
    forced_first: int | None = None
    forced_last: int | None = None
    banned_ids: frozenset[int] = frozenset()
    ignored: tuple[str, ...] = ()
    temperature: float | None = None
    undrawn: tuple[str, ...] = ()


def read_generation(model_dir: ModelDir, vocab_size: int, default_eos: Callable[[], int | None]) -> Generation:
    """What the directory says. `default_eos`: the end token where neither file names one. Raises
    `config-not-supported`, `token-outside`."""
    path = model_dir.path / NAME
    own = _said(read_json(path) if path.exists() else {})
    settings = _Settings(path, model_dir.config | own, vocab_size)
    eos = settings.get("eos_token_id")
    eos = default_eos() if eos is None else eos
    eos_ids = frozenset([] if eos is None else eos if isinstance(eos, list) else [eos])
    words = settings.get("bad_words_ids") or []
    banned = [word[0] for word in words if len(word) == 1] + (settings.get("suppress_tokens") or [])
    ignored = [name for name, values in NEUTRAL.items() if settings.get(name) not in (None, *values)]
    return Generation(
        eos_ids=eos_ids,
        start_id=settings.token("decoder_start_token_id"),
        forced_first=settings.token("forced_bos_token_id"),
        forced_last=settings.token("forced_eos_token_id"),
        banned_ids=frozenset(banned) - eos_ids,
        ignored=(*ignored, *(["bad_words_ids"] if any(len(word) > 1 for word in words) else [])),
        temperature=_temperature(path, own),
        undrawn=tuple(name for name, values in DRAWING.items() if own.get(name) not in (None, *values)),
    )


def _temperature(path: Path, own: dict[str, Any]) -> float | None:
    """As transformers has it: a temperature holds where `do_sample` is true, and false means the most likely token.
    Without `do_sample` nothing is said. Raises `config-not-supported`."""
    sampled, found = own.get("do_sample"), own.get("temperature")
    if sampled is not True or found is None:
        return 0.0 if sampled is False else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < math.inf:
        raise fail("config-not-supported", path=path, key="temperature", found=repr(found))
    return float(found)


def _said(content: dict[str, Any]) -> dict[str, Any]:
    """The keys that have a value."""
    return {key: value for key, value in content.items() if value is not None}


@dataclass(frozen=True)
class _Settings:
    """Both files' keys; `path` is named in errors."""

    path: Path
    content: dict[str, Any]
    vocab_size: int

    def get(self, key: str) -> Any:
        return self.content.get(key)

    def token(self, key: str) -> int | None:
        """One token, or none. A list of several is refused: which of them is meant depends on the decoding."""
        found = self.get(key)
        found = found[0] if isinstance(found, list) and len(found) == 1 else found
        if found is None:
            return None
        if not isinstance(found, int) or isinstance(found, bool):
            raise fail("config-not-supported", path=self.path, key=key, found=repr(found))
        if not 0 <= found < self.vocab_size:
            raise fail("token-outside", where=f"{self.path} {key}", found=found, size=self.vocab_size)
        return found
