"""Tuning a model on rows as long as its new window: the ordinary loop on joined documents."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from ingot.adapt.active import Active
from ingot.adapt.load import LanguageModel
from ingot.adapt.lora import low_rank
from ingot.adapt.methods import put_on
from ingot.core.options import Options, option
from ingot.core.progress import say
from ingot.data.pack import Rows, pack_documents
from ingot.data.read import Document
from ingot.evaluate.context.long_text import Joiner
from ingot.text.tokenizer import Tokenizer
from ingot.train.account import Account
from ingot.train.checkpoint import Place
from ingot.train.corpus import divide
from ingot.train.distributed.sharing import share
from ingot.train.distributed.world import World
from ingot.train.loop import Run
from ingot.train.machine import default_device
from ingot.train.method import rate_of
from ingot.train.optimizers.groups import freeze
from ingot.train.plan import Result, make_plan, precision_of
from ingot.train.settings import TrainingOptions

ROWS_A_STEP = 4


class ContextTuning(Options):
    """How it is tuned on the long rows."""

    method: Literal["full", "lora"] = option(
        "full", "what trains: every weight, or a low-rank update merged at the end"
    )
    rank: int = option(16, "rank of the update (lora)", ge=1)
    batch_tokens: int | None = option(None, "tokens a step; four rows by default", ge=8)
    max_minutes: float | None = option(None, "end after this long", gt=0)
    heldout: float = option(0.02, "share of the documents held out, where no manifest names some", gt=0, lt=1)
    allow_unknown_licence: bool = option(False, "train on text even where nobody has said under which licence it is")


@dataclass(frozen=True)
class LongCorpus:
    """Rows to train on, the held-out texts, and the account of tokens and licences."""

    rows: Rows
    heldout: list[str]
    account: Account


def prepare(
    data: Path, tokenizer: Tokenizer, length: int, tuning: ContextTuning, seed: int, directory: Path
) -> LongCorpus:
    """Hold some documents out and join the others to rows, kept in files below `directory`."""
    account = Account(data, tuning.allow_unknown_licence)
    train, heldout = divide(account, tokenizer, tuning.heldout, seed, most=sys.maxsize)
    assert tokenizer.eos_id is not None
    joiner = Joiner(length, tokenizer.start_ids, tokenizer.eos_id)
    pieces = _pieces(train, tokenizer, joiner, account)
    rows = pack_documents(pieces, length, pad=tokenizer.pad_id or 0, directory=directory)
    account.separators = joiner.separators
    say("corpus", tokens=f"{rows.num_tokens:,}", rows=f"{len(rows):,}", length=length,
        filled=f"{rows.num_tokens / (len(rows) * length):.1%}")  # fmt: skip
    return LongCorpus(rows, heldout, account)


def _pieces(
    documents: Iterator[Document], tokenizer: Tokenizer, joiner: Joiner, account: Account
) -> Iterator[list[int]]:
    for document in documents:
        ids = tokenizer.encode(document.text)
        account.count(document, len(ids))
        yield from joiner.add(ids)
    yield from chain(joiner.finish())


def train(
    model: LanguageModel,
    corpus: LongCorpus,
    options: TrainingOptions,
    tuning: ContextTuning,
    place: Place,
    resumed: bool,
) -> Result:
    """Tune the network in place; a low-rank update is left beside the weights, for the caller to merge."""
    decoder = model.decoder.requires_grad_(True)
    if tuning.method == "lora":
        put_on(decoder, low_rank(tuning.rank), "tuned", Active())
    freeze(decoder, options.loop.freeze)
    rate = options.lr or rate_of(tuning.method, model.config.hidden_size)
    decoder.to(default_device())
    batch = options.batch_tokens or ROWS_A_STEP * corpus.rows.length
    world = World()
    precision = precision_of(options, model.config.hidden_size, place, world)
    plan = make_plan(options, corpus.rows, batch, rate, decoder, world, precision)
    say(
        "context-tuning", method=tuning.method, length=corpus.rows.length, steps=f"{plan.max_steps:,}", lr=f"{rate:.2g}"
    )
    sharing = share(decoder, options.loop, world)
    result = Run(decoder, corpus.rows, plan, place, name_of=_name, sharing=sharing).go(resumed)
    decoder.cpu().eval()
    return result


def _name(number: int) -> str:
    return f"long text {number + 1}"
