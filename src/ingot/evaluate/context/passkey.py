"""Passkey retrieval (Mohtashami and Jaggi 2023, arXiv 2305.16300), measured by likelihood.

A number stands in filler text at some depth; at the end the text asks for it. The model is right when the true number
is more likely than each of the others offered, so that a model too small to answer freely is measured too; chance is
one in the number of candidates. All candidates have equally many tokens, none is favoured by being short.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.adapt.methods import length_in_front
from ingot.core.language import text
from ingot.core.progress import track, warn
from ingot.model.cache import HeldRows, KVCache
from ingot.text.tokenizer import Tokenizer

DIGITS = 5
READ_AT_ONCE = 512
"""Prompt tokens read in one pass: bounds the mask."""


@dataclass(frozen=True)
class Wording:
    """The texts of one language; `key` is how an answer is written, `{}` the number."""

    begin: str
    filler: tuple[str, ...]
    needle: str
    question: str
    key: str


WORDINGS = {
    "en": Wording(
        "There is a pass key hidden in the following text. Find it and remember it. ",
        ("The grass is green. ", "The sky is blue. ", "The sun is yellow. ", "Here we go. ", "There and back again. "),
        "The pass key is {}. Remember it. The pass key is {}. ",
        "What is the pass key? The pass key is",
        " {}",
    ),
    "zh": Wording(
        "下面的文字裡藏著一組密碼，請找出來並記住。",
        ("草是綠的。", "天空是藍的。", "太陽是黃的。", "我們出發了。", "去了又回來。"),
        "密碼是{}。請記住，密碼是{}。",
        "密碼是什麼？密碼是",
        "{}",
    ),
}


@dataclass(frozen=True)
class Trial:
    """One question: the prompt, the answers offered, and which of them is right. `depth`: 0 begin, 1 end."""

    language: str
    length: int
    depth: float
    prompt: list[int]
    candidates: list[list[int]]
    right: int


Scorer = Callable[[Sequence[int], Sequence[Sequence[int]]], Sequence[float]]
"""How likely each candidate is behind a prompt; only the order counts."""


def make_trials(
    tokenizer: Tokenizer,
    lengths: Sequence[int],
    depths: Sequence[float],
    languages: Sequence[str],
    *,
    repeats: int,
    num_keys: int,
    seed: int,
) -> list[Trial]:
    """Trials of at most each length, question and answer included; lengths without room for filler are left out.

    A language whose digits the tokenizer cannot tell apart is left out with a warning.
    """
    found = []
    for language in languages:
        generator = random.Random(f"{seed}-{language}")
        for length in lengths:
            for depth in depths:
                for _ in range(repeats):
                    keys = _keys(tokenizer, WORDINGS[language], num_keys, generator)
                    if keys is None:
                        break
                    trial = _trial(tokenizer, language, length, depth, keys, generator)
                    found += [trial] if trial else []
        if not any(trial.language == language for trial in found):
            warn("context-no-passkey", spoken=text(f"context-language-{language}"))
    return found


def _keys(tokenizer: Tokenizer, wording: Wording, num_keys: int, generator: random.Random) -> list[str] | None:
    """Different numbers with equally many tokens each, None where the tokenizer has no such numbers."""
    by_size: dict[int, dict[tuple[int, ...], str]] = {}
    for _ in range(60 * num_keys):
        key = str(generator.randrange(10 ** (DIGITS - 1), 10**DIGITS))
        ids = tuple(tokenizer.encode(wording.key.format(key)))
        group = by_size.setdefault(len(ids), {})
        group.setdefault(ids, key)
        if len(group) == num_keys and ids:
            return list(group.values())
    return None


def _trial(
    tokenizer: Tokenizer, language: str, length: int, depth: float, keys: list[str], generator: random.Random
) -> Trial | None:
    wording = WORDINGS[language]
    right = generator.randrange(len(keys))
    candidates = [tokenizer.encode(wording.key.format(key)) for key in keys]
    needle = wording.needle.format(*[keys[right]] * 2)
    room = length - len(candidates[0]) + 1  # the answer's last token is scored, not read
    turn = generator.randrange(len(wording.filler))

    def prompt(sentences: int) -> list[int]:
        filler = [wording.filler[(turn + at) % len(wording.filler)] for at in range(sentences)]
        before = round(depth * sentences)
        written = wording.begin + "".join(filler[:before]) + needle + "".join(filler[before:]) + wording.question
        return [*tokenizer.start_ids, *tokenizer.encode(written)]

    cycle = (len(prompt(40)) - len(prompt(0))) / 40
    sentences = max(0, int((room - len(prompt(0))) / cycle) + 2)
    while sentences and len(prompt(sentences)) > room:
        sentences -= 1
    return Trial(language, length, depth, prompt(sentences), candidates, right) if sentences else None


def answers(trials: Sequence[Trial], scorer: Scorer, label: str | None = None) -> list[bool]:
    """Whether each trial's right candidate scored above all others; a tie is wrong."""
    found = []
    for trial in track(trials, label, len(trials)) if label else trials:
        scores = list(scorer(trial.prompt, trial.candidates))
        others = scores[: trial.right] + scores[trial.right + 1 :]
        found.append(all(scores[trial.right] > score for score in others))
    return found


def likelihood(model: LanguageModel) -> Scorer:
    """log p of each candidate behind the prompt, which is read once."""

    @torch.inference_mode()
    def score(prompt: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[float]:
        held = _Held.of(model, len(prompt) + max(map(len, candidates)))
        first_V = held.read(prompt, 0, len(prompt) + len(candidates[0]) - 1)[-1]
        return [held.go_on(len(prompt), candidate, first_V) for candidate in candidates]

    return score


@dataclass(frozen=True)
class _Held:
    """A text that a cache holds, behind the `front` tokens that an adapter put before it."""

    model: LanguageModel
    cache: KVCache
    places_BS: Tensor
    front: int

    @classmethod
    def of(cls, model: LanguageModel, length: int) -> _Held:
        """An empty text that may grow to a length."""
        capacity = length + length_in_front(model.network)
        cache = KVCache(model.config, capacity, model.device, model.decoder.dtype)
        places_BS = torch.arange(capacity, device=model.device)[None]
        return cls(model, cache, places_BS, int(model.decoder.keep_front(cache, places_BS)))

    def go_on(self, at: int, candidate: Sequence[int], first_V: Tensor) -> float:
        """log p of a candidate; what an earlier one left in the cache is overwritten."""
        total = float(first_V[candidate[0]])
        if len(candidate) > 1:
            scores_TV = self.read(candidate[:-1], at, at + len(candidate) - 1)
            total += sum(float(scores_TV[place, token]) for place, token in enumerate(candidate[1:]))
        return total

    def read(self, ids: Sequence[int], at: int, length: int) -> Tensor:
        """Append ids from position `at` on; log p over the vocabulary behind each of the last pass, (T, V).

        `length`: of the whole text, which decides the positions under some scalings. A prompt that is read in both
        directions is read in one pass.
        """
        device, decoder = self.model.device, self.model.decoder
        hidden = torch.empty(0)
        prefix = len(ids) if at == 0 and self.model.config.prefix_lm else 0
        size = max(READ_AT_ONCE, prefix)
        lengths_B = torch.tensor([self.front + length], device=device)
        for begin in range(0, len(ids), size):
            part_BT = torch.tensor([list(ids[begin : begin + size])], device=device)
            order_BT = torch.arange(at + begin, at + begin + part_BT.shape[1], device=device)[None]
            positions_BT, prefix_BT = self.front + order_BT, order_BT < prefix if prefix else None
            rows = HeldRows.at(self.cache, self.places_BS, positions_BT)
            hidden = decoder(part_BT, positions_BT, prefix_BT=prefix_BT, lengths_B=lengths_B, rows=rows)[0]
        return decoder.head(hidden if at else hidden[-1:]).log_softmax(-1)
