"""How well a network predicts each of some texts, in the way its kind can.

decoder                   -log2 p of the text's tokens, over its bytes: bits per byte
encoder, encoder-decoder  the loss of the objective it is tuned by, over the targets that it makes of the text, in
                          nats: what it hides is drawn from fixed seeds, so both measurements ask the same
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingot.adapt.load import LanguageModel
from ingot.data.objectives.objective import Objective
from ingot.data.pack import pack_documents
from ingot.infer.bits import text_bits
from ingot.model.decoder import Decoder
from ingot.train.heldout import rows_loss


@dataclass(frozen=True)
class Scores:
    """By text: what a network pays for it, and for how much (bytes, or targets)."""

    paid: list[float]
    sizes: list[int]


def is_in_bytes(model: LanguageModel) -> bool:
    """Whether its scores are bits per byte, which compare any two models."""
    return isinstance(model.network, Decoder)


def score_texts(model: LanguageModel, objective: Objective, texts: Sequence[str], length: int) -> Scores:
    """The scores of texts, each on its own; `length`: tokens of a row, for which the objective was made."""
    if is_in_bytes(model):
        return Scores(text_bits(model, texts), [len(one.encode()) for one in texts])
    found = [_loss(model, objective, one, length) for one in texts]
    return Scores([total for total, _ in found], [count for _, count in found])


def _loss(model: LanguageModel, objective: Objective, one: str, length: int) -> tuple[float, int]:
    ids = [*objective.start_ids, *model.tokenizer.encode(one)]
    pad = model.tokenizer.pad_id or 0
    rows = pack_documents([ids], length, eos=objective.end_id, pad=pad, room=objective.room)
    return rows_loss(model.network, objective, rows)
