"""The decoder: ids in, hidden states out, and the head that turns them into logits.

Module names are the checkpoint's names, so loading is a strict `load_state_dict`. A tied head has no module of its
own: it is the embedding, used twice; but for one that is held in few bits beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.model.cache import CacheRows, HeldRows
from ingot.model.config import ModelConfig
from ingot.model.context import Behind, Recorder, default_positions, masks, text_lengths
from ingot.model.families import DECODERS
from ingot.model.held import HeldLinear
from ingot.model.layers import Backbone
from ingot.model.transformer import Transformer


class Taps:
    """Hidden states between layers, of a pass that takes it along: `streams[k]` is what enters layer k, for each k of
    `wanted`."""

    def __init__(self, wanted: Iterable[int]) -> None:
        self._wanted = frozenset(wanted)
        self.streams: dict[int, Tensor] = {}

    def note(self, layer: int, x_BTC: Tensor) -> None:
        if layer in self._wanted:
            self.streams[layer] = x_BTC


class Decoder(Transformer):
    """A decoder-only transformer (Vaswani et al. 2017; Radford et al. 2018) of any family."""

    takes_prefix = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.family = DECODERS[config.model_type]
        setattr(self, self.family.prefix, self.family.make(config))
        if not config.tie_embeddings:
            setattr(self, self.family.head, nn.Linear(config.hidden_size, config.vocab_size, bias=False))

    @property
    def backbone(self) -> Backbone:
        return getattr(self, self.family.prefix)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.backbone.blocks

    @property
    def embedding(self) -> nn.Embedding:
        return self.backbone.embedding

    @property
    def embedding_scale(self) -> float:
        return self.backbone.embedding_scale

    @property
    def ties(self) -> dict[str, str]:
        if not self.config.tie_embeddings:
            return {}
        name = next(name for name, parameter in self.named_parameters() if parameter is self.embedding.weight)
        return {f"{self.family.head}.weight": name}

    def forward(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        prefix_BT: Tensor | None = None,
        lengths_B: Tensor | None = None,
        rows: HeldRows | None = None,
        layers: int | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, (B, T, hidden); `layers`: of the first so many layers alone; `taps`: what
        the layers it wants find is put there.

        Tokens see only earlier tokens of their own segment (equal number in `segments_BT`; all, when not given), and
        tokens of its prefix (`prefix_BT`) the whole prefix. `rows`: each row goes on with what a cache holds, and sees
        all of it: what adapters put in front too, once `keep_front` wrote it there and positions count from its end. A
        prefix must then be read in the one pass that begins its text. `lengths_B`: how long each row's text is where
        less of it is read than that (it matters where `config.crossing` is a number).
        """
        positions_BT = default_positions(ids_BT) if positions_BT is None else positions_BT
        before = None if self.before is None or rows is not None else self.before.remembered(self, ids_BT)
        mask_of = masks(self.config, positions_BT, segments_BT, prefix_BT, rows, before)
        lengths_BT = None if lengths_B is None else lengths_B[:, None].expand(ids_BT.shape)
        if lengths_BT is None and self.config.crossing is not None:
            lengths_BT = text_lengths(positions_BT, segments_BT)
        seen: CacheRows | None = rows
        if before is not None:
            seen, positions_BT = Behind(before), positions_BT + before.lengths_B[:, None]
            lengths_BT = None if lengths_BT is None else lengths_BT + before.lengths_B[:, None]
        return self._through(ids_BT, positions_BT, lengths_BT, mask_of, seen, layers, taps)

    def remember(self, ids_BT: Tensor) -> Recorder:
        """The keys and values of every layer once `ids_BT` were read alone."""
        recorder, positions_BT = Recorder(), default_positions(ids_BT)
        lengths_BT = None if self.config.crossing is None else text_lengths(positions_BT, None)
        self._through(ids_BT, positions_BT, lengths_BT, masks(self.config, positions_BT, None, None, None), recorder)
        return recorder

    def _through(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor,
        lengths_BT: Tensor | None,
        mask_of: dict[int | None, Tensor | None],
        rows: CacheRows | None,
        layers: int | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        x_BTC = self.backbone.embed(ids_BT, positions_BT)
        taps = taps or Taps(())
        angles_of = self.angles(positions_BT, lengths_BT, x_BTC.dtype)
        each = list(zip(self.blocks, self.config.windows, self.config.ropes, strict=True))
        for number, (block, window, rope) in enumerate(each[:layers]):
            taps.note(number, x_BTC)
            x_BTC = block(x_BTC, angles_of[rope], mask_of[window], rows)
        return self.backbone.final(x_BTC)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits in float32 over the vocabulary, (..., V)."""
        head = getattr(self, self.family.head, None)
        if isinstance(head, HeldLinear):
            return self.cap(head(hidden).float())
        return self.cap(F.linear(hidden, self.head_weight.to(hidden.dtype)).float())

    def cap(self, logits: Tensor) -> Tensor:
        """Logits as the model gives them from plain products: capped where its config says so (Gemma 2)."""
        softcap = self.config.logit_softcap
        return logits if softcap is None else softcap * torch.tanh(logits / softcap)

    @property
    def head_weight(self) -> Tensor:
        """(V, hidden): the embedding when tied."""
        if self.config.tie_embeddings:
            return self.embedding.weight
        return getattr(self, self.family.head).weight
