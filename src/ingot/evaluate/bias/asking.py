"""How a decoder is asked: log p of a text, or of what follows a context, cut as benchmarks cut it; and what it writes.

Without a context a text stands behind BOS, else EOS. Equal questions are asked once.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ingot.adapt.load import LanguageModel
from ingot.core.language import text
from ingot.core.progress import progress
from ingot.evaluate.benchmarks.encode import Encoder, cut_pair
from ingot.evaluate.bias.options import BiasOptions
from ingot.evaluate.statistics import Interval, wilson
from ingot.infer.engine import Engine
from ingot.infer.likelihood import Query, following, query_logprobs
from ingot.infer.options import Sampling
from ingot.infer.prompts import make_prompt
from ingot.infer.reader import Prompt
from ingot.text.tokenizer import Tokenizer

CONTROLS = 200
"""Sentences that are scored in shuffled order as well."""


@dataclass(frozen=True)
class Written:
    """What a model wrote. finish_reason is "length" where it was cut."""

    reply: str
    finish_reason: str
    tokens: int


def follow(tokenizer: Tokenizer, context: str, continuation: str) -> Query:
    """log p of what follows a context ("": of the text alone). Raises `evaluate-no-start-token`."""
    scored, _ = cut_pair(Encoder(tokenizer), context, continuation)
    return following((*scored.context, *scored.tokens), len(scored.context))


def sums(model: LanguageModel, queries: Sequence[Query], label: str) -> list[float]:
    """The sum of each query's log-probabilities, in the order given. A row beyond the window loses its beginning, as
    lm-eval's does."""
    cut = [_fitting(query, model.max_length) for query in queries]
    different = list(dict.fromkeys(cut))
    found = dict(zip(different, query_logprobs(model, different, label), strict=True))
    return [float(found[query].double().sum()) for query in cut]


def _fitting(query: Query, longest: int) -> Query:
    over = len(query.ids) - longest
    if over <= 0:
        return query
    kept = [at for at, place in enumerate(query.places) if place >= over]
    return Query(
        query.ids[over:], tuple(query.places[at] - over for at in kept), tuple(query.targets[at] for at in kept)
    )


def sentences(model: LanguageModel, texts: Sequence[str], label: str) -> list[float]:
    """log p of each text by itself, nats."""
    return sums(model, [follow(model.tokenizer, "", one) for one in texts], label)


def write(model: LanguageModel, prompts: Sequence[str], chat: bool, options: BiasOptions, label: str) -> list[Written]:
    """What the model writes, greedily, through the engine that also serves. `chat`: each prompt is a user's turn."""
    return write_from(model, [make_prompt(model, one, chat) for one in prompts], options, label)


def write_from(model: LanguageModel, prompts: Sequence[Prompt], options: BiasOptions, label: str) -> list[Written]:
    """The same for prompts that are already read."""
    engine = Engine(model, num_slots=max(1, min(options.machine.slots, len(prompts))))
    sampling = Sampling(temperature=0.0, max_tokens=options.max_tokens)
    asked = {engine.submit(prompt, sampling).id: at for at, prompt in enumerate(prompts)}
    found: dict[int, Written] = {}
    with progress(label, len(prompts)) as advance:
        while engine.has_work:
            for event in engine.step():
                if event.finish_reason is not None:
                    sequence = event.sequence
                    found[asked[sequence.id]] = Written(sequence.text, event.finish_reason, len(sequence.tokens))
            advance(len(found))
    return [found[at] for at in range(len(prompts))]


def shuffled(sentence: str, lang: str = "en") -> str:
    """The words (in Chinese the characters) in another order, the same for the same sentence. The first two and the
    last two stay, so that neither a capital nor a full stop gives the order away."""
    parts = list(sentence) if lang == "zh" else sentence.split()
    inside = parts[2:-2]
    random.Random(hashlib.blake2b(sentence.encode(), digest_size=8).digest()).shuffle(inside)
    return ("" if lang == "zh" else " ").join([*parts[:2], *inside, *parts[-2:]])


def controlled(texts: Sequence[str]) -> list[int]:
    """Which of the texts are scored shuffled as well: at most CONTROLS, by a hash, so that order does not matter."""
    ranked = sorted(range(len(texts)), key=lambda at: hashlib.blake2b(texts[at].encode(), digest_size=8).digest())
    return sorted(ranked[:CONTROLS])


def prefers_order(pairs: Sequence[tuple[float, float]]) -> Interval:
    """How often (sentence, shuffled) scores the sentence higher."""
    return wilson(sum(whole > mixed for whole, mixed in pairs), len(pairs))


def asking_label(model: LanguageModel, suite: str) -> str:
    return text("bias-asking", model=model.name, suite=suite)
