"""What is drawn from: the model's own logits, or, where a request is steered, what is made of several.

A pass gives rows for each text that is ready: one for each token to be drawn, then the same of each earlier layer that
was asked for. A guided text is ready when its companion is: the same answer behind the negative prompt, read beside it.
Whichever of the two comes first is kept until the other is there (Sanchez et al. 2023, arXiv 2306.17806).

Without a negative prompt the companion reads the prompt's last token alone, as in transformers.

Legend: R tokens to draw, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt, Reader
from ingot.infer.sequence import Sequence
from ingot.infer.steering.dola import contrasted


@dataclass(frozen=True)
class Drawable:
    """Texts whose next token can be drawn; raw_RV: the model's own logits, for each text as many rows as it has guesses
    and one; steered_RV: what is drawn from, the same tensor where nothing is steered."""

    sequences: list[Sequence]
    raw_RV: Tensor
    steered_RV: Tensor

    def rows(self, rows: list[int], sequences: list[Sequence]) -> Drawable:
        """Some rows, which belong to these texts; nothing is copied when they are all."""
        if rows == list(range(len(self.raw_RV))):
            return self
        raw_RV = self.raw_RV[rows]
        return Drawable(sequences, raw_RV, raw_RV if self.steered_RV is self.raw_RV else self.steered_RV[rows])


class Combiner:
    """One for an engine: it keeps what waits for its companion. That is no less true of a text that gave up its blocks
    meanwhile: its tokens are the same."""

    def __init__(self) -> None:
        self._held: WeakKeyDictionary[Sequence, Tensor] = WeakKeyDictionary()

    def combine(self, ready: list[Sequence], logits_RV: Tensor) -> Drawable:
        if not any(sequence.taps or sequence.pair for sequence in ready):
            return Drawable(ready, logits_RV, logits_RV)
        sequences: list[Sequence] = []
        raw: list[Tensor] = []
        steered: list[Tensor] = []
        begin = 0
        for sequence in ready:
            rows, layers = 1 + len(sequence.draft), 1 + len(sequence.taps)
            own_RV, *earlier = logits_RV[begin : begin + rows * layers].split(rows)
            begin += rows * layers
            found = self._pair(sequence, own_RV) if sequence.pair else _alone(sequence, own_RV, earlier)
            if found is not None:
                sequences.append(found[0])
                raw.append(found[1])
                steered.append(found[2])
        return Drawable(sequences, torch.cat(raw), torch.cat(steered)) if raw else Drawable([], logits_RV, logits_RV)

    def _pair(self, sequence: Sequence, logits_RV: Tensor) -> tuple[Sequence, Tensor, Tensor] | None:
        """The text that draws, its own logits and the guided ones, once both have been read."""
        self._held[sequence] = logits_RV
        if any(each not in self._held for each in sequence.pair):
            return None
        leader = sequence.pair[0]
        wanted_RV, unwanted_RV = (self._held.pop(each) for each in sequence.pair)
        return leader, wanted_RV, guided(wanted_RV, unwanted_RV, leader.sampling.guidance_scale)


def negative_prompt(model: LanguageModel, sampling: Sampling, prompt: Prompt) -> Prompt:
    """What a guided request's companion begins with. Raises what reading a text does."""
    if sampling.negative_prompt is not None:
        return Reader.of(model).text(model.tokenizer, sampling.negative_prompt)
    return Prompt.of(sampling.negative_prompt_ids or prompt.ids[-1:])


def _alone(sequence: Sequence, own_RV: Tensor, earlier: list[Tensor]) -> tuple[Sequence, Tensor, Tensor]:
    if not earlier:
        return sequence, own_RV, own_RV
    return sequence, own_RV, contrasted(own_RV, torch.stack(earlier), sequence.sampling.dola_relative_top)


def guided(wanted_RV: Tensor, unwanted_RV: Tensor, scale: float) -> Tensor:
    """log p behind the negative prompt, and `scale` times as far from it as log p behind the prompt is."""
    unwanted_RV = unwanted_RV.log_softmax(-1)
    return unwanted_RV + scale * (wanted_RV.log_softmax(-1) - unwanted_RV)
