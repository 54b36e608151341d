"""The verb `verify`: repeat the checks on a directory, from the digests of its files to every value of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ingot.adapt.files import read_settings
from ingot.adapt.load import load
from ingot.core.errors import fail
from ingot.core.hallmark import NAME
from ingot.core.model_dir import ModelDir
from ingot.core.options import Options, argument, verb
from ingot.core.progress import say, warn
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.weights import check_finite, read_tensors
from ingot.text.tokenizer import Tokenizer


class VerifyOptions(Options):
    """Repeat the checks on a directory."""

    path: Path = argument("model, adapter or tokenizer directory")


@dataclass(frozen=True)
class Verified:
    """The checks that passed."""

    path: Path
    kind: str
    digest: str
    checks: list[str]

    def summary(self) -> dict[str, Any]:
        return {"path": str(self.path), "kind": self.kind, "digest": self.digest, "checks": self.checks}


@verb(VerifyOptions)
def verify(options: VerifyOptions) -> Verified:
    """Repeat the checks on a directory. Raises IngotError at the first that fails."""
    found = ModelDir.open(options.path)
    checks = ["headers"]
    if found.hallmark:
        check_files(found)
        checks.append("digests")
    else:
        warn("no-hallmark", path=options.path)
    checks += CONTENT[found.kind](found)
    say("verified", path=options.path, checks=len(checks))
    return Verified(options.path, found.kind, found.digest, checks)


def check_files(found: ModelDir) -> None:
    """Every file as the hallmark has it: none changed, missing or added."""
    assert found.hallmark is not None
    recorded = found.hallmark.files
    changed = sorted(
        name for name in recorded.keys() | found.files.keys() if recorded.get(name) != found.files.get(name)
    )
    if changed:
        raise fail("files-changed", path=found.path / NAME, files=", ".join(changed))


def check_model(found: ModelDir) -> list[str]:
    """Architecture, tensors, tokenizer, and that it computes."""
    model = load(found.path)
    checks = ["architecture", "weights"]
    if (found.path / "tokenizer.json").exists():
        assert model.tokenizer
        checks.append("tokenizer")
    ids = [list(range(min(16, model.config.vocab_size)))]
    logits = model.logits(ids, ids if isinstance(model.network, EncoderDecoder) else None)
    if not torch.isfinite(logits).all():
        raise fail("not-finite", tensor="logits", path=found.path, count=int((~torch.isfinite(logits)).sum()))
    return [*checks, "logits"]


def check_adapter(found: ModelDir) -> list[str]:
    """Settings we compute, and finite values; the base is checked when both are opened together."""
    read_settings(found)
    for name, tensor in read_tensors(found):
        check_finite(name, tensor, found.path)
    return ["settings", "weights"]


def check_tokenizer(found: ModelDir) -> list[str]:
    """It opens and gives back what it was given."""
    tokenizer = Tokenizer.open(found.path)
    text = "ingot 0.5, 語言模型！"
    if tokenizer.decode(tokenizer.encode(text)) != text:
        warn("tokenizer-loses-text", path=found.path)
    return ["tokenizer"]


CONTENT: dict[str, Callable[[ModelDir], list[str]]] = {
    "model": check_model,
    "adapter": check_adapter,
    "tokenizer": check_tokenizer,
}
