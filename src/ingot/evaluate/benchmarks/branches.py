"""How likely texts are that branch from shared beginnings, each beginning read once.

A cache holds one beginning at a time: first what a group of items shares (its examples), behind it an item's context,
behind that its choices, each in blocks of its own. The head runs at the places that are scored and nowhere else; a
choice of one token is read off its context's last place. How an item is cut into passes depends on the item alone, so
its numbers are the same bits in any order, beside any others, and after a resumed run.

A model that reads prompts in both directions, or whose positions change with the length of the text, shares nothing:
each text is read whole (`infer/likelihood.py`), which is what all of this equals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.adapt.methods import length_in_front
from ingot.core.errors import fail
from ingot.evaluate.benchmarks.encode import Encoded, Scored
from ingot.infer.blocks import BLOCK, blocks_for
from ingot.infer.likelihood import LOGITS_AT_ONCE, following, query_logprobs
from ingot.infer.runner import Span, TorchRunner
from ingot.infer.runners import make_runner

PART = 512
"""Tokens of a context that are read in one pass."""


def score_items(scorer: Branches, encoded: Encoded) -> tuple[list[float], list[float]]:
    """Log-probabilities of an item's choices, and of the same choices alone."""
    return scorer.score(encoded.choices, encoded.shared), scorer.score(encoded.alone, ())


@dataclass
class _Held:
    """What the first blocks hold: these tokens, from the beginning of a text on."""

    tokens: tuple[int, ...] = ()


class Branches:
    """Scores choices under one model. `longest`: tokens of the longest text; `branching`: blocks that the choices of an
    item take at most (`blocks_of`)."""

    def __init__(self, model: LanguageModel, longest: int, branching: int) -> None:
        self.model = model
        config = model.decoder.config
        self.shares = not config.prefix_lm and config.crossing is None
        if not self.shares:
            return
        self.front = length_in_front(model.network)
        trunk = blocks_for(self.front + longest)
        self._trunk = list(range(1, trunk + 1))
        self._free = list(range(trunk + 1, trunk + 1 + branching))
        self.runner = make_runner(model, 1 + trunk + branching, 0, model.writer.dtype)
        self._held = _Held()
        if self.front:
            assert isinstance(self.runner, TorchRunner)
            self.front = self.runner.keep_front([self._trunk], [None])[0]

    @torch.inference_mode()
    def score(self, choices: Sequence[Scored], shared: tuple[int, ...]) -> list[float]:
        """The sum of log p of each choice's tokens behind its context. Raises `logits-not-finite`."""
        if not self.shares:
            return [_whole(self.model, choice) for choice in choices]
        contexts = list(dict.fromkeys(choice.context for choice in choices))
        root = _root(contexts, shared)
        if root:
            self._hold(root)
        found = dict[Scored, float]()
        for context in contexts:
            each = [choice for choice in dict.fromkeys(choices) if choice.context == context]
            found |= self._behind(context, len(root), each)
        return [found[choice] for choice in choices]

    def _hold(self, root: tuple[int, ...]) -> None:
        """Read a beginning, if it is not what is held."""
        if self._held.tokens != root:
            self._held.tokens = ()
            self._read(root, 0, wanted=0)
            self._held.tokens = root

    def _behind(self, context: tuple[int, ...], begin: int, choices: Sequence[Scored]) -> dict[Scored, float]:
        """Read a context from `begin` on, then its choices from its end."""
        if begin == 0:
            self._held.tokens = ()
        last_1C = self._read(context, begin, wanted=1)
        longer = [choice for choice in choices if len(choice.tokens) > 1]
        spans = self._spans(context, longer)
        read_PC = self.runner.run(spans) if spans else last_1C[:0]
        parts = dict(zip(longer, read_PC.split([len(span.ids) for span in spans]), strict=True))
        hidden_PC = torch.cat([last_1C, *parts.values()])
        firsts = torch.tensor([choice.tokens[0] for choice in choices], device=hidden_PC.device)
        rest = torch.tensor(
            [token for c in longer for token in c.tokens[1:]], dtype=torch.long, device=hidden_PC.device
        )
        first_K, rest_P = self._logprobs(hidden_PC, firsts, rest)
        sums = dict(zip(choices, first_K.double().tolist(), strict=True))
        sizes = [len(choice.tokens) - 1 for choice in longer]
        for choice, part_P in zip(longer, rest_P.split(sizes), strict=True):
            sums[choice] += float(part_P.double().sum())
        return sums

    def _read(self, ids: tuple[int, ...], begin: int, wanted: int) -> Tensor:
        """Read a text from its token `begin` on into the first blocks; the last `wanted` hidden states."""
        hidden_RC = torch.zeros(0)
        for at in range(begin, len(ids), PART):
            end = min(at + PART, len(ids))
            hidden_RC = self.runner.run([self._span(ids[at:end], at, self._trunk, wanted if end == len(ids) else 0)])
        return hidden_RC

    def _spans(self, context: tuple[int, ...], choices: Sequence[Scored]) -> list[Span]:
        """All tokens but the last of each choice, in blocks that begin as its context's do."""
        free, spans = iter(self._free), []
        position = self.front + len(context)
        for choice in choices:
            whole, inside = divmod(position, BLOCK)
            own = [next(free) for _ in range(blocks_for(inside + len(choice.tokens) - 1))]
            if inside:
                self.runner.copy_block(self._trunk[whole], own[0])
            ids = choice.tokens[:-1]
            spans.append(self._span(ids, len(context), [*self._trunk[:whole], *own], len(ids)))
        return spans

    def _span(self, ids: Sequence[int], begin: int, blocks: list[int], wanted: int) -> Span:
        begin += self.front
        return Span(ids=ids, begin=begin, blocks=blocks, wanted=wanted, length=begin + len(ids), front=self.front)

    def _logprobs(self, hidden_PC: Tensor, firsts_K: Tensor, rest_P: Tensor) -> tuple[Tensor, Tensor]:
        """Of the first tokens at the first place, and of the others at one place each."""
        size, parts = max(1, LOGITS_AT_ONCE // self.model.config.vocab_size), []
        first_K = torch.zeros(0)
        for at in range(0, len(hidden_PC), size):
            logits_PV = self.runner.head(hidden_PC[at : at + size])
            if not bool(logits_PV.amax(-1).isfinite().all()):
                raise fail("logits-not-finite", path=self.model.model_dir.path)
            normed_P = logits_PV.logsumexp(-1)
            if at == 0:
                first_K = (logits_PV[0, firsts_K] - normed_P[0]).cpu()
                logits_PV, normed_P = logits_PV[1:], normed_P[1:]
            targets_P = rest_P[max(0, at - 1) : at - 1 + size]
            parts.append((logits_PV.gather(-1, targets_P[:, None])[:, 0] - normed_P).cpu())
        return first_K, torch.cat(parts)


def blocks_of(choices: Sequence[Scored]) -> int:
    """Blocks that the choices of an item take at most, whatever stands in front of them."""
    return sum(blocks_for(BLOCK - 1 + len(choice.tokens)) for choice in choices)


def _root(contexts: Sequence[tuple[int, ...]], shared: tuple[int, ...]) -> tuple[int, ...]:
    """What is held while an item is scored: what its group shares with all its contexts, else what several contexts
    share; one token of each context at least stays to be read."""
    among = [shared, *contexts] if shared else contexts
    if len(among) < 2:
        return ()
    most = min([len(each) - 1 for each in contexts])
    first = among[0]
    same = next((n for n, tokens in enumerate(zip(*among, strict=False)) if len(set(tokens)) > 1), min(map(len, among)))
    return first[: max(0, min(same, most))]


def _whole(model: LanguageModel, choice: Scored) -> float:
    query = following((*choice.context, *choice.tokens), len(choice.context))
    return float(query_logprobs(model, [query])[0].double().sum())
