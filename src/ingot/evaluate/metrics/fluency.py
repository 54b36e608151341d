"""How fluent texts are to a reference model: bits per byte, and points of texts for the divergence.

The same count as task `perplexity`: every token once, what the tokenizer puts before a document in front and unscored,
UTF-8 bytes of the raw text below. A text that is likely to the model is not good for that: an empty phrase repeated is
likeliest of all, so read it beside `distinct`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.files import path_digest
from ingot.core.language import text
from ingot.core.progress import warn
from ingot.evaluate.metrics.measured import Measured
from ingot.evaluate.perplexity import BITS, LOSSY, document_logprobs, lost_characters, start_ids
from ingot.evaluate.statistics import Values
from ingot.infer.embed import embed, text_ids

DIGITS = 12


def model_name(model: LanguageModel) -> str:
    """A model in a signature: its name and the digest of its files."""
    digests = "+".join(path_digest(Path(one.path))[:DIGITS] for one in model.parents)
    return f"{model.name}@{digests}"


def fluency(texts: Sequence[str], model: LanguageModel) -> Measured:
    """Bits per byte; lower is more likely. An empty text has none. Raises `score-lossy-model` where the model's
    tokenizer loses characters of the texts, because then the model was asked less than what was written."""
    tokenizer = model.tokenizer
    start = start_ids(tokenizer, model.model_dir.path)
    encoded = tokenizer.encode_batch(list(texts))
    lost = sum(lost_characters(tokenizer, one, ids) for one, ids in zip(texts, encoded, strict=True))
    if lost > LOSSY * max(1, sum(map(len, texts))):
        raise fail("score-lossy-model", path=model.model_dir.path, lost=lost, total=sum(map(len, texts)))
    rows = [[*start, *ids] for ids in encoded]
    window = min(2048, model.max_length)
    scored = dict(document_logprobs(model, rows, len(start), window, None))
    nats = np.array([-float(scored[number].sum()) for number in range(len(rows))])
    stats = np.stack([nats * BITS, np.array([len(one.encode()) for one in texts], np.float64)], axis=1)
    if not np.isfinite(nats).all():
        warn("evaluate-overflow", model=model.name)
    with np.errstate(invalid="ignore", divide="ignore"):
        items = np.where(stats[:, 1] > 0, stats[:, 0] / stats[:, 1], np.nan)
    signature = f"unit:bits-per-byte|model:{model_name(model)}|window:{window}|stride:{max(1, window // 2)}"
    tokens = sum(map(len, encoded))
    return Measured(
        "fluency", float(stats[:, 0].sum() / max(1.0, stats[:, 1].sum())), signature,
        text("score-why-model"), False, items, stats, bits_of_sums, extra={"tokens": tokens},
        notes=[text("score-note-fluency")],
    )  # fmt: skip


def bits_of_sums(sums_DK: Values) -> Values:
    """Bits over bytes."""
    return np.asarray(sums_DK[:, 0] / np.maximum(sums_DK[:, 1], 1.0))


def model_features(texts: Sequence[str], model: LanguageModel) -> Values:
    """(texts, width): mean hidden state of each text, of length one; what does not fit the window is cut off."""
    rows = [text_ids(model, one)[: model.max_length] for one in texts]
    return np.asarray(embed(model, [row or [*model.tokenizer.start_ids] for row in rows]).double().numpy())
