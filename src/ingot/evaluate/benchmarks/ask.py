"""Asking one model all items of a task: choices by log-likelihood, answers by the engine. Rows are saved at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.progress import progress, warn
from ingot.evaluate.benchmarks.branches import Branches, blocks_of, score_items
from ingot.evaluate.benchmarks.chat import Chat
from ingot.evaluate.benchmarks.encode import Encoded, encode_items
from ingot.evaluate.benchmarks.prompts import Item
from ingot.evaluate.benchmarks.spec import Spec
from ingot.evaluate.journal import Journal
from ingot.evaluate.task import Row
from ingot.infer.engine import Engine
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt, Reader
from ingot.text.chat import end_of_turn

PURE = "acc_mutual_info"
"""The metric that also asks how likely a choice is by itself."""


@dataclass(frozen=True)
class Asking:
    """How one model is asked a task. most: the share of prompts that may not fit; chat: None for plain prompts."""

    spec: Spec
    model: LanguageModel
    chat: Chat | None
    most: float

    def common(self, item: Item) -> Row:
        """What a row says of its item."""
        document, style = item.document, self.chat.style if self.chat else "off"
        return {
            "id": item.id,
            "group": document.group,
            "cluster": document.cluster,
            "question": item.questions[0] if len(set(item.questions)) == 1 else "\n".join(item.questions),
            "chat": style,
            "prompt_hash": item.hash_of(style),
            "shots": list(item.shots),
        }


def ask_choices(asking: Asking, items: Sequence[Item], journal: Journal) -> None:
    """Score the choices of every item that the journal lacks. Raises `bench-too-many-cut`, which nothing was asked
    before."""
    spec, model = asking.spec, asking.model
    encoded = list(encode_items(model.tokenizer, items, model.max_length, PURE in spec.metrics, asking.chat))
    _check_lengths(asking, {each.item.id: each.cut for each in encoded})
    _tell_merged(spec, model, encoded)
    left = [each for each in encoded if each.item.id not in journal.rows]
    if not left:
        return
    every = [[*each.choices, *each.alone] for each in left]
    longest = max(len(choice.context) for choices in every for choice in choices)
    scorer = Branches(model, longest, max(map(blocks_of, every)))
    with progress(text("bench-asking", task=spec.name, model=model.name), len(items)) as advance:
        for each in left:
            journal.add(_choice_row(asking, each, *score_items(scorer, each)))
            advance(len(journal.rows))


def _check_lengths(asking: Asking, cuts: dict[str, int]) -> None:
    """Raises `bench-too-many-cut` where more prompts than that lose their beginning; else says how many do."""
    cut = {id: over for id, over in cuts.items() if over}
    if not cut:
        return
    spec, model = asking.spec, asking.model
    told = {"task": spec.name, "model": model.name, "cut": len(cut), "total": len(cuts), "window": model.max_length}
    if len(cut) > asking.most * len(cuts):
        first, over = next(iter(cut.items()))
        raise fail("bench-too-many-cut", **told, id=first, over=over, most=f"{100 * asking.most:g}")
    warn("bench-cut", **told)


def _tell_merged(spec: Spec, model: LanguageModel, encoded: Sequence[Encoded]) -> None:
    """How many choices share a token with their context."""
    merged = sum(each.merged for each in encoded)
    if merged:
        first = next(each.item.id for each in encoded if each.merged)
        warn("bench-merged", task=spec.name, model=model.name, merged=merged, id=first)


def _choice_row(asking: Asking, encoded: Encoded, scores: Sequence[float], alone: Sequence[float]) -> Row:
    choices = encoded.choices
    return {
        **asking.common(encoded.item),
        "choices": list(encoded.item.document.choices),
        "gold": list(encoded.item.document.gold),
        "logprobs": list(scores),
        **({"logprobs_alone": list(alone)} if alone else {}),
        "tokens": [len(choice.tokens) for choice in choices],
        "context_tokens": max(len(choice.context) for choice in choices),
        "cut": encoded.cut,
        "merged": encoded.merged,
    }


def ask_answers(asking: Asking, items: Sequence[Item], slots: int, max_tokens: int, journal: Journal) -> None:
    """Let the model answer every item that the journal lacks, greedily. Raises `bench-too-many-cut`,
    `bench-no-room`."""
    spec, model = asking.spec, asking.model
    prompts = list(_prompts(asking, items, max_tokens))
    _check_lengths(asking, {item.id: over for item, (_, over) in zip(items, prompts, strict=True)})
    left = [(item, *found) for item, found in zip(items, prompts, strict=True) if item.id not in journal.rows]
    if not left:
        return
    end = end_of_turn(model.tokenizer) if asking.chat else None
    ends = [] if end is None or end in model.eos_ids else [end]
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens, stop=list(spec.stop), stop_token_ids=ends)
    engine = Engine(model, num_slots=min(slots, len(left)))
    asked = {engine.submit(prompt, sampling).id: (item, over) for item, prompt, over in left}
    with progress(text("bench-asking", task=spec.name, model=model.name), len(items)) as advance:
        while engine.has_work:
            for event in engine.step():
                if event.finish_reason is not None:
                    item, over = asked[event.sequence.id]
                    journal.add(_answer_row(asking, item, over, event.sequence))
            advance(len(journal.rows))


def _prompts(asking: Asking, items: Sequence[Item], max_tokens: int) -> Iterator[tuple[Prompt, int]]:
    """Each prompt as the model reads it, and how many of its first tokens did not fit beside an answer."""
    model, chat = asking.model, asking.chat
    tokenizer, room = model.tokenizer, model.max_length - max_tokens
    if room < 1:
        raise fail("bench-no-room", model=model.name, window=model.max_length, max_tokens=max_tokens)
    if chat:
        reader = Reader.of(model)
        found = [reader.conversation(tokenizer, chat.messages(item)) for item in items]
    else:
        texts = tokenizer.encode_batch([item.context(0) for item in items])
        found = [Prompt.of([*tokenizer.document_prefix, *ids]) for ids in texts]
    for prompt in found:
        over = max(0, len(prompt.ids) - room)
        yield Prompt(prompt.ids[over:], max(0, prompt.prefix - over)), over


def _answer_row(asking: Asking, item: Item, over: int, sequence: Any) -> Row:
    return {
        **asking.common(item),
        "target": item.target,
        "reply": sequence.text,
        "finish_reason": sequence.finish_reason,
        "tokens": len(sequence.tokens),
        "context_tokens": len(sequence.start.prompt),
        "cut": over,
    }
