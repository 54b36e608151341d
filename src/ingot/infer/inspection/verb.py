"""The verb `inspect`: one text through a model, and a page of what went on inside."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from ingot.adapt.load import LanguageModel, load
from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.options import Options, argument, option, required, verb
from ingot.core.progress import say
from ingot.core.report import Cell, Report
from ingot.infer.inspection import page
from ingot.infer.inspection.capture import CROSS, Seen, look
from ingot.infer.inspection.tokens import prompt_ids, target_ids
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.parameters import count
from ingot.text.readable import readable

MOST = 128
"""Tokens that a map can still show."""


class InspectOptions(Options):
    """Options of `inspect`."""

    model: str = argument("model to look into: DIR, or DIR+ADAPTER")
    prompt: str = required("text to read; for an encoder-decoder, its source")
    out: Path = required("directory for the report")
    target: str = option("", "what an encoder-decoder's decoder reads; by default what it writes itself")
    special: bool = option(False, "read special tokens in the prompt, such as [MASK], as what they are")
    layers: str = option("", "layers whose maps are drawn, with commas; all by default")


@verb(InspectOptions)
def inspect(options: InspectOptions) -> Report:
    """Draw attention, the residual stream and what each layer would say of a text."""
    refuse_nonempty(options.out)
    model = load(options.model)
    if options.target and not isinstance(model.network, EncoderDecoder):
        raise fail("inspect-target", family=model.config.model_type)
    drawn = _layers(options.layers, model.config.num_layers)
    source, ids = _ids(model, options)
    seen = look(model.network, ids, source)
    names = partial(readable, model.tokenizer)
    read = page.Text([names(id) for id in ids], [names(id) for id in source or []])
    report = Report(
        title=text("inspect-title", name=model.name),
        verb="inspect",
        options=options.model_dump(mode="json"),
        numbers=_numbers(seen, ids),
        sections=page.sections(seen, read, names, count(model.config), drawn),
    ).write(options.out)
    say("inspect-written", tokens=len(ids), path=report.summary()["report"])
    return report


def _ids(model: LanguageModel, options: InspectOptions) -> tuple[list[int] | None, list[int]]:
    """The source, where there is one, and what the writing side reads."""
    ids = prompt_ids(model, options.prompt, options.special)
    source = ids if isinstance(model.network, EncoderDecoder) else None
    if source is not None:
        ids = target_ids(model, source, options.target)
    longest, most = max(len(ids), len(source or [])), min(MOST, model.max_length)
    if longest > most:
        raise fail("inspect-too-long", found=longest, most=most)
    return source, ids


def _layers(wanted: str, num_layers: int) -> set[int] | None:
    """Layer numbers, negative ones from the end. Raises `inspect-layers`."""
    if not wanted:
        return None
    try:
        found = {int(number) for number in wanted.split(",")}
    except ValueError:
        raise fail("inspect-layers", found=wanted, last=num_layers - 1) from None
    if any(not -num_layers <= number < num_layers for number in found):
        raise fail("inspect-layers", found=wanted, last=num_layers - 1)
    return {number % num_layers for number in found}


def _numbers(seen: Seen, ids: list[int]) -> dict[str, Cell]:
    found = page.heads(seen)
    own = [head for head in found if head.stack != CROSS and head.first is not None]
    rows = [weights.sum(-1) - 1 for layers in seen.attention.values() for weights in layers]
    numbers: dict[str, Cell] = {
        "tokens": len(ids),
        "heads": len(found),
        "attention_entropy": sum(head.entropy for head in found) / len(found),
        "largest_row_error": max(float(row.abs().max()) for row in rows),
        "last_norm": float(torch.linalg.vector_norm(seen.stacks[-1].stream[-1].float(), dim=-1).mean()),
    }
    if own:
        numbers["first_token_share"] = sum(head.first or 0.0 for head in own) / len(own)
        numbers["sink_heads"] = sum((head.first or 0.0) > page.SINK for head in own)
    return numbers
