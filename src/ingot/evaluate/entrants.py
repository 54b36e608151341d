"""The models that take part, checked before any of them is loaded: directories, tokenizers, windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ingot.adapt.files import room_in_front
from ingot.adapt.load import check_sizes
from ingot.core.errors import fail, nearest
from ingot.core.model_dir import ModelDir, split_reference
from ingot.core.report import unique_names
from ingot.data.objectives.options import Form
from ingot.evaluate.options import EvaluateOptions
from ingot.model.config import ModelConfig
from ingot.model.network import form_of
from ingot.text.tokenizer import Tokenizer

LONGEST_DEFAULT_WINDOW = 2048
"""Without --window, a model that could look back further does not: cost grows with the square of it."""


@dataclass(frozen=True)
class Entrant:
    """A model taking part. `byte_size` counts its weight files, `tokenizer` is the digest of its tokenizer; `weights`:
    what its layers multiplied by, known once it ran."""

    name: str
    reference: str
    digest: str
    byte_size: int
    tokenizer: str
    window: int
    form: Form = "decoder"
    weights: str | None = None


Needs = Callable[[Path, Tokenizer, Form], None]
"""Raises IngotError where what is to be measured cannot be asked of a directory's model."""


def open_entrants(references: list[str], needs: Needs) -> list[Entrant]:
    """Check every reference. Raises IngotError naming the directory and what it lacks."""
    names = entrant_names(references)
    pairs = zip(names, references, strict=True)
    return [_open(name, reference, needs) for name, reference in pairs]


def _open(name: str, reference: str, needs: Needs) -> Entrant:
    base, adapters = split_reference(reference)
    parts = [ModelDir.open(path) for path in (base, *adapters)]
    if parts[0].kind != "model":
        raise fail("not-a-model", path=base, kind=parts[0].kind)
    if not (base / "tokenizer.json").exists():
        raise fail("no-tokenizer", path=base)
    tokenizer = Tokenizer.open(base)
    config = ModelConfig.read(parts[0].config, base / "config.json")
    needs(base, tokenizer, form_of(config))
    check_sizes(tokenizer, config, base)
    return Entrant(
        name=name,
        reference=reference,
        digest="+".join(part.digest for part in parts),
        byte_size=sum(file.stat().st_size for part in parts for file in {e.file for e in part.tensors.values()}),
        tokenizer=tokenizer.digest,
        window=config.max_length - room_in_front(parts[1:]),
        form=form_of(config),
    )


def entrant_names(references: list[str]) -> list[str]:
    """The last folder of each reference ("base+lora" for a pair), with the one above it where that is not unique."""
    paths = [[base, *adapters] for base, adapters in map(split_reference, references)]
    short = ["+".join(_folders(path)[-1] for path in each) for each in paths]
    twice = {name for name, count in Counter(short).items() if count > 1}
    longer = ["+".join("-".join(_folders(path)[-2:]) for path in each) for each in paths]
    return unique_names([long if name in twice else name for name, long in zip(short, longer, strict=True)])


def _folders(path: Path) -> tuple[str, ...]:
    return tuple(part for part in path.resolve().parts if part != "/")


def baseline_index(entrants: list[Entrant], baseline: str | None) -> int:
    """The entrant named, or numbered from 1. Raises `evaluate-unknown-baseline` with the nearest name."""
    names = [entrant.name for entrant in entrants]
    if baseline is None:
        return 0
    for index, entrant in enumerate(entrants):
        if baseline in (entrant.name, entrant.reference):
            return index
    if baseline.isdigit() and 1 <= int(baseline) <= len(entrants):
        return int(baseline) - 1
    raise fail("evaluate-unknown-baseline", name=baseline, nearest=nearest(baseline, names), count=len(names))


def common_window(entrants: list[Entrant], options: EvaluateOptions) -> tuple[int, int]:
    """(window, stride) for all, so that every model sees as much. Raises `evaluate-bad-window`."""
    shortest = min(entrants, key=lambda entrant: entrant.window)
    window = min(shortest.window, LONGEST_DEFAULT_WINDOW) if options.window is None else options.window
    if window > shortest.window:
        raise fail("evaluate-window-too-long", window=window, model=shortest.name, longest=shortest.window)
    stride = max(1, window // 2) if options.stride is None else options.stride
    if stride > window:
        raise fail("evaluate-stride-too-long", stride=stride, window=window)
    return window, stride
