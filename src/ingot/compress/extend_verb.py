"""The verb `tokenizer extend`: a model that writes another script with fewer tokens, and is what it was in the old one.

New merges are learnt from the new text's script alone and stand behind the old ones (`ingot.text.extend`), the new rows
are made from the old (`ingot.compress.extend`), every other number is copied. What is proven from the re-opened
directory: old tokens keep their ids; text without the script keeps its ids, any other gets new tokens in place of
neighbours only; weights and logits of old tokens are what they were; the old language's loss rose by 0.1 % at most.
The new language is predicted worse than before until the model is trained on it: that is reported, too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import regex
import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel, load
from ingot.adapt.wrapped import origin, plain_name
from ingot.compress.compare import make_probe
from ingot.compress.extend import Rows, make_rows, press_down, read_positions
from ingot.compress.source import Weights, write_config
from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.options import Options, argument, option, required, verb
from ingot.core.progress import say, track, warn
from ingot.data.manifest import heldout_files, licence_of
from ingot.data.read import is_heldout, read_documents
from ingot.infer.bits import bits_per_byte
from ingot.model.weights import read_tensor, write_tensors
from ingot.text.extend import SCRIPTS, Extension, count_runs, is_refined, learn_extension, write_extension
from ingot.text.measure import raw_bytes
from ingot.text.tokenizer import Tokenizer

TOLERANCE = 0.001
"""By how much the old language's loss may rise."""
AIM = 0.0004
"""What is aimed at on the text the pressure is chosen on; the rest is for other text."""
FEW = 8
"""Tokens of old text for each entry of a hidden state, below which half of the text says too little to check on."""
HELDOUT = 0.1
LOGIT_TOLERANCE = 1e-5
"""Of the largest logit: products of another shape round differently."""


class TokenizerExtendOptions(Options):
    """Options of `tokenizer extend`."""

    model: str = argument("the model, with a byte-level BPE tokenizer")
    data: Path = required("text in the new language; tokens are learnt from it")
    out: Path = required("the model directory to write")
    add: int = option(1000, "how many tokens to add", ge=1, le=1 << 20)
    script: Literal["han", "kana", "hangul", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "thai"] = option(
        "han", "the script of the new tokens; text without it keeps its ids"
    )
    init: Literal["mean", "length", "edges"] = option(
        "mean", "new vectors from those of a token's pieces: all alike, by length, or its first and last"
    )
    old_data: Path | None = option(
        None, "text in the old language, whose loss must not rise; without it, the model writes some"
    )
    tokens: int = option(16384, "at most about so many tokens of each language are measured", ge=64)
    seed: int = option(0, "of the choice of texts that are measured", ge=0)


@verb(TokenizerExtendOptions)
def tokenizer_extend(options: TokenizerExtendOptions) -> ModelDir:
    """Add tokens of another script to a model's tokenizer, and rows to its weights."""
    refuse_nonempty(options.out)
    weights, before = Weights.open(options.model), load(options.model)
    runs = count_runs((document.text for document in read_documents(options.data)), options.script)
    extension = learn_extension(before.tokenizer, runs, options.add, options.script)
    if len(extension.tokens) < options.add:
        warn("extend-fewer", found=len(extension.tokens), asked=options.add)
    sample = Sample.take(options, before)
    rows, pressure = _rows(before, extension, sample, options.init)
    with ModelDir.create(options.out, "tokenizer extend", options) as draft:
        draft.parents, draft.seed = weights.parents, options.seed
        draft.read_data(options.data, licence_of(options.data))
        if options.old_data:
            draft.read_data(options.old_data, licence_of(options.old_data))
        grown = Grown(weights, extension, rows)
        write_config(draft, weights, {"vocab_size": grown.size})
        write_extension(extension, weights.base.path, draft.path)
        grown.write(draft)
        after = load(draft.path)
        _prove_tokenizer(draft, before.tokenizer, after.tokenizer, sample, options.script)
        _prove_weights(draft, grown, before, after, sample)
        draft.numbers |= {"added_tokens": len(extension.tokens), "vocab_size": grown.size, "pressure": pressure}
        _measure(draft, before, after, sample)
    say("extend-done", out=options.out, **draft.numbers)
    return ModelDir.open(options.out)


@dataclass(frozen=True)
class Sample:
    """Texts to measure on: of the old language, without the script, and of the new, held out where there is enough."""

    old: list[str]
    new: list[str]
    drawn: bool
    """Whether the old texts were written by the model."""

    @classmethod
    def take(cls, options: TokenizerExtendOptions, model: LanguageModel) -> Sample:
        """Raises `extend-no-old-text`."""
        script = regex.compile(SCRIPTS[options.script])
        known = _documents(options.old_data) if options.old_data else _written(model, options)
        old = [one for one in known if one.strip() and not script.search(one)]
        if not old:
            raise fail("extend-no-old-text", place=options.old_data or model.name, script=options.script)
        new = [one for one in _documents(options.data) if script.search(one)]
        held = [one for one in new if is_heldout(one, HELDOUT, options.seed)]
        old, new = (_some(part, model, options) for part in (old, held or new))
        return cls(old, new, drawn=options.old_data is None)


def _documents(path: Path) -> list[str]:
    return [document.text for file in heldout_files(path) for document in read_documents(file)]


def _written(model: LanguageModel, options: TokenizerExtendOptions) -> list[str]:
    rows = make_probe(model, None, options.tokens, options.seed).rows
    return [model.tokenizer.decode(row) for row in rows]


def _some(texts: list[str], model: LanguageModel, options: TokenizerExtendOptions) -> list[str]:
    """Texts in seeded order until there are enough tokens."""
    ordered = random.Random(options.seed).sample(texts, len(texts))
    chosen: list[str] = []
    count = 0
    for one in ordered:
        if count < options.tokens:
            chosen.append(one)
            count += len(model.tokenizer.encode(one))
    return chosen


def _rows(model: LanguageModel, extension: Extension, sample: Sample, init: str) -> tuple[Rows, float]:
    """The new rows, pressed down as the old texts ask for: fitted on one half, checked on the other."""
    tokenizer = model.tokenizer
    pieces = [[_id(tokenizer, piece) for piece in extension.pieces(token)] for token in extension.tokens]
    sizes = [[len(raw_bytes(tokenizer, id) or b"?") for id in ids] for ids in pieces]
    rows = windows(model, sample.old)
    few = sum(map(len, rows)) < FEW * model.config.hidden_size or len(rows) < 2
    halves = (rows, rows) if few else (rows[::2], rows[1::2])
    fit, check = (read_positions(model, half) for half in halves)
    return press_down(model, make_rows(model, pieces, sizes, init), fit, check, AIM)


def _id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.id(token)
    assert found is not None, token
    return found


def windows(model: LanguageModel, texts: list[str]) -> list[list[int]]:
    """Rows of ids to read, each begun as a document is, none longer than the model's window."""
    start = list(model.tokenizer.start_ids) or [0]
    rows = []
    for ids in model.tokenizer.encode_batch(texts):
        row = [*start, *ids]
        rows += [row[at : at + model.max_length] for at in range(0, len(row) - 1, model.max_length)]
    return [row for row in rows if len(row) > 1]


@dataclass(frozen=True)
class Grown:
    """The weights with the new rows. Rows that padded the old embedding are used first."""

    weights: Weights
    extension: Extension
    rows: Rows

    @property
    def size(self) -> int:
        needed = self.extension.first_id + len(self.extension.tokens)
        return max(self.weights.decoder.config.vocab_size, needed)

    def new_rows(self, name: str) -> Tensor | None:
        """What a tensor of the checkpoint is given, None for all that stay as they are. Bare ones lack a prefix."""
        decoder = self.weights.decoder
        table = origin(decoder.embedding).weight
        embedding = next(plain_name(name) for name, parameter in decoder.named_parameters() if parameter is table)
        if name in (embedding, embedding.partition(".")[2]):
            return self.rows.embedding
        return self.rows.output if name == f"{decoder.family.head}.weight" else None

    def read(self, name: str) -> Tensor:
        """A tensor as it is to be written."""
        tensor, new = self.weights.read(name), self.new_rows(name)
        if new is None:
            return tensor
        grown = tensor.new_zeros(self.size, *tensor.shape[1:])
        grown[: len(tensor)] = tensor
        first = self.extension.first_id
        grown[first : first + len(new)] = new.to(tensor.dtype)
        return grown

    def write(self, draft: Draft) -> None:
        """Stream all tensors into one file."""
        spec = {name: (self.weights.dtype(name), self._shape(name)) for name in self.weights.names}
        names = track(self.weights.names, text("extending"), len(self.weights.names))
        write_tensors(draft.path / "model.safetensors", spec, ((name, self.read(name)) for name in names))

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self.weights.shape(name)
        return shape if self.new_rows(name) is None else (self.size, *shape[1:])

    def changed(self, written: ModelDir) -> Iterator[str]:
        """Tensors that differ, bit for bit, from what they were: of the two tables, the rows of old tokens."""
        for name in self.weights.names:
            before, found = self.weights.read(name), read_tensor(written.tensors[name])
            rows = slice(None) if self.new_rows(name) is None else slice(self.extension.first_id)
            if not torch.equal(before[rows], found[rows]):
                yield name


def _prove_tokenizer(draft: Draft, old: Tokenizer, new: Tokenizer, sample: Sample, script: str) -> None:
    moved = sum(old.token(id) != new.token(id) for id in range(old.vocab_size))
    draft.prove("old tokens with another id", f"{old.vocab_size} tokens", moved)
    pairs = [(old.encode(one), new.encode(one)) for one in sample.old]
    draft.prove(f"texts without {script} with other ids", f"{len(pairs)} texts", sum(a != b for a, b in pairs))
    wrong = sum(not is_refined(old.encode(one), new.encode(one), old, new) for one in sample.new)
    draft.prove("texts that changed in more than new tokens for neighbours", f"{len(sample.new)} texts", wrong)


@torch.inference_mode()
def _prove_weights(draft: Draft, grown: Grown, before: LanguageModel, after: LanguageModel, sample: Sample) -> None:
    """Weights are compared on disk, logits between the two loaded models."""
    names = list(grown.changed(after.model_dir))
    draft.prove("tensors whose old numbers changed", f"{len(grown.weights.names)} tensors", len(names))
    row, first = windows(before, sample.old)[0], grown.extension.first_id
    expected, found = (model.logits([row])[..., :first] for model in (before, after))
    difference = float((found - expected).abs().max() / expected.abs().max())
    draft.prove("logit difference of old tokens over largest logit", f"{len(row)} tokens", difference, LOGIT_TOLERANCE)


def _measure(draft: Draft, before: LanguageModel, after: LanguageModel, sample: Sample) -> None:
    """Bits per byte of both languages before and after, and the new one's tokens."""
    numbers: dict[str, Any] = {"measured_on": "samples" if sample.drawn else "data"}
    for name, texts in (("old", sample.old), ("new", sample.new)):
        bits = [bits_per_byte(model, texts, text("comparing")) for model in (before, after)]
        tokens = [sum(map(len, model.tokenizer.encode_batch(texts))) for model in (before, after)]
        numbers |= {f"{name}_bits_per_byte_before": bits[0], f"{name}_bits_per_byte": bits[1],
                    f"{name}_bits_per_byte_change": bits[1] / bits[0] - 1, f"{name}_tokens_before": tokens[0],
                    f"{name}_tokens": tokens[1], f"{name}_tokens_change": tokens[1] / tokens[0] - 1}  # fmt: skip
    change = numbers["old_bits_per_byte_change"]
    draft.prove("rise of the old language's bits per byte, as a share", f"{len(sample.old)} texts", change, TOLERANCE)
    draft.numbers |= numbers
