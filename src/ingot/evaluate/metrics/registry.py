"""The metrics by name: what each needs, which options it reads, and how it is run.

Adding one is a function from `Inputs` to `Measured`, a line in METRICS and a test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from ingot.core.errors import fail
from ingot.core.files import path_digest
from ingot.core.language import text
from ingot.data.read import read_documents
from ingot.evaluate.metrics import diversity, translation
from ingot.evaluate.metrics.divergence import character_features, divergence
from ingot.evaluate.metrics.measured import Measured, mean_of_sums
from ingot.evaluate.metrics.novelty import novelty
from ingot.evaluate.metrics.options import ScoreOptions
from ingot.evaluate.metrics.rouge import Cut, rouge
from ingot.evaluate.metrics.tokens import CJK_NAME, DEFAULT_NAME, Script, cjk_tokens

if TYPE_CHECKING:
    from ingot.adapt.load import LanguageModel

DIGITS = 12
"""Of a digest in a signature."""


@dataclass(frozen=True)
class Inputs:
    """Texts to score, sets of references, how they all are written, and the options."""

    texts: Sequence[str]
    references: Sequence[Sequence[str]]
    script: Script
    options: ScoreOptions
    opened: Opened


class Opened:
    """The model of --model, loaded when a metric first asks for it, once for both systems."""

    def __init__(self, reference: str | None) -> None:
        self.reference = reference

    @cached_property
    def model(self) -> LanguageModel:
        from ingot.infer.opened import open_model  # torch is not needed by any other metric

        assert self.reference is not None
        return open_model(self.reference, "cpu", "auto")


@dataclass(frozen=True)
class Metric:
    """`needs` are options without which it cannot run, `reads` those that only some metrics read; with `paired_lines`
    line n of the references belongs to line n of the texts."""

    run: Callable[[Inputs], list[Measured]]
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    paired_lines: bool = True


def _bleu(given: Inputs) -> list[Measured]:
    own = given.options.bleu
    chosen, reason, forced = translation.choose("bleu", own.tokenize, given.script, given.options.force)
    return [translation.bleu(given.texts, given.references, chosen, lowercase=own.lowercase, reason=reason,
                             forced=forced)]  # fmt: skip


def _chrf(given: Inputs) -> list[Measured]:
    own = given.options.chrf
    return [translation.chrf(given.texts, given.references, word_order=own.word_order, lowercase=own.lowercase,
                             script=given.script, force=given.options.force)]  # fmt: skip


def _ter(given: Inputs) -> list[Measured]:
    chosen, reason, forced = translation.choose("ter", given.options.ter.tokenize, given.script, given.options.force)
    return [translation.ter(given.texts, given.references, chosen, reason=reason, forced=forced)]


def _rouge(given: Inputs) -> list[Measured]:
    cut, reason, forced = rouge_cut(given.options, given.script)
    found = rouge(given.texts, given.references, cut)
    signature = f"nrefs:{len(given.references)}|{cut.signature}|beta:1|version:ingot-{version('ingot')}"
    signature += f"|{translation.FORCED}" if forced else ""
    return [_rouge_kind(kind, triples, signature, reason) for kind, triples in found.items()]


def _rouge_kind(kind: str, triples: np.ndarray[tuple[int, int], np.dtype[np.float64]], signature: str,
                reason: str) -> Measured:  # fmt: skip
    precision, recall, both = triples.T
    stats = np.stack([both, np.ones(len(both))], axis=1)
    extra = {"precision": float(precision.mean()), "recall": float(recall.mean())}
    return Measured(kind, float(both.mean()), signature, reason, True, both, stats, mean_of_sums, extra=dict(extra))


def rouge_cut(options: ScoreOptions, script: Script) -> tuple[Cut, str, bool]:
    """(tokens, why, forced). Raises `score-loses` where rouge-score's tokens would lose text."""
    wanted = options.rouge.tokenize
    chosen = wanted if wanted != "auto" else DEFAULT_NAME if script.language == "en" else "ingot-cjk"
    forced = chosen == DEFAULT_NAME and script.lost > 0
    if forced and not options.force:
        raise fail("score-loses", count=script.lost, total=script.total)
    tokenizer = DEFAULT_NAME if chosen == DEFAULT_NAME else CJK_NAME
    return Cut(tokenizer, options.rouge.stem), translation.why(wanted, script), forced


def _distinct(given: Inputs) -> list[Measured]:
    own = given.options.distinct
    return [diversity.distinct(given.texts, cjk_tokens, CJK_NAME, n, own.sample, text("score-why-tokens"))
            for n in range(1, own.n + 1)]  # fmt: skip


def _self_bleu(given: Inputs) -> list[Measured]:
    seed = given.options.paired.seed
    return [diversity.self_bleu(given.texts, cjk_tokens, CJK_NAME, seed, text("score-why-tokens"))]


def _novelty(given: Inputs) -> list[Measured]:
    corpus = given.options.corpus
    assert corpus is not None
    documents = (document.text for document in read_documents(corpus))
    return [novelty(given.texts, documents, f"{corpus.name}@{path_digest(corpus)[:DIGITS]}")]


def _divergence(given: Inputs) -> list[Measured]:
    human, options = given.references[0], given.options
    if options.model is None:
        name, points = "hashed-characters-1-3", (character_features(given.texts), character_features(human))
    else:
        from ingot.evaluate.metrics.fluency import model_features, model_name

        model = given.opened.model
        name, points = model_name(model), (model_features(given.texts, model), model_features(human, model))
    draws = options.paired.draws or 1000
    return [divergence(given.texts, human, points, name, options.paired.seed, draws)]


def _fluency(given: Inputs) -> list[Measured]:
    from ingot.evaluate.metrics.fluency import fluency

    return [fluency(given.texts, given.opened.model)]


METRICS: dict[str, Metric] = {
    "bleu": Metric(_bleu, ("ref",), ("ref", "bleu", "force")),
    "chrf": Metric(_chrf, ("ref",), ("ref", "chrf", "force")),
    "ter": Metric(_ter, ("ref",), ("ref", "ter", "force")),
    "rouge": Metric(_rouge, ("ref",), ("ref", "rouge", "force")),
    "distinct": Metric(_distinct, (), ("distinct",), False),
    "self-bleu": Metric(_self_bleu, (), (), False),
    "novelty": Metric(_novelty, ("corpus",), ("corpus",), False),
    "divergence": Metric(_divergence, ("ref",), ("ref", "model"), False),
    "fluency": Metric(_fluency, ("model",), ("model",), False),
}
