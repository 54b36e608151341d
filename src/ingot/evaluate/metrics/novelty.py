"""What of generated texts stands word for word in a training corpus: novelty for every n, and the longest copied span.

The texts become a suffix automaton (Blumer et al. 1985), and the corpus runs through it once, document by document,
however large it is: at every corpus token the automaton knows the longest stretch ending there that the texts hold
too. Read backwards, this gives for every token of the texts the longest copied stretch that ends at it, exactly and for
all lengths at once: an n-gram is new where that stretch is shorter than n. Nothing is hashed or sampled.

Tokens are those of `ingot-cjk`: Chinese by characters, English by words, case folded, punctuation and spaces left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ingot.core.errors import fail
from ingot.core.language import text
from ingot.evaluate.metrics.measured import Measured, mean_of_sums
from ingot.evaluate.metrics.tokens import CJK_NAME, Cut, cjk_tokens
from ingot.evaluate.statistics import Values

LENGTHS = (2, 4, 8, 13)
HEADLINE = 8
MOST_TOKENS = 2_000_000
"""About a kilobyte of memory a token."""


class Automaton:
    """All stretches of tokens of some texts. States are numbers; a state stands for stretches that end in the same
    places, of lengths up to `length[state]`; `link` leads to the longest shorter ones."""

    def __init__(self, texts: Iterable[Sequence[str]]) -> None:
        self.number_of: dict[str, int] = {}
        self.next: list[dict[int, int]] = [{}]
        self.link, self.length = [-1], [0]
        self.ends: list[list[int]] = []
        last = 0
        for number, tokens in enumerate(texts):
            states = []
            for token in tokens:
                last = self._add(last, self.number_of.setdefault(token, len(self.number_of)))
                states.append(last)
            self.ends.append(states)
            last = self._add(last, -1 - number)  # ends the text: no corpus holds it
        self.found = [0] * len(self.link)

    def _add(self, last: int, token: int) -> int:
        new = self._state(self.length[last] + 1, {})
        at = last
        while at >= 0 and token not in self.next[at]:
            self.next[at][token] = new
            at = self.link[at]
        if at < 0:
            self.link[new] = 0
            return new
        old = self.next[at][token]
        if self.length[old] == self.length[at] + 1:
            self.link[new] = old
            return new
        clone = self._state(self.length[at] + 1, dict(self.next[old]))
        self.link[clone] = self.link[old]
        while at >= 0 and self.next[at].get(token) == old:
            self.next[at][token] = clone
            at = self.link[at]
        self.link[old] = self.link[new] = clone
        return new

    def _state(self, length: int, following: dict[int, int]) -> int:
        self.next.append(following)
        self.link.append(0)
        self.length.append(length)
        return len(self.link) - 1

    def read(self, tokens: Iterable[str]) -> None:
        """Let a document of the corpus run through."""
        following, link, length, found, number_of = self.next, self.link, self.length, self.found, self.number_of
        state = matched = 0
        for word in tokens:
            token = number_of.get(word)
            if token is None:
                state = matched = 0
                continue
            while token not in following[state]:
                state = link[state]
                if state < 0:
                    break
                matched = length[state]
            else:
                state = following[state][token]
                matched += 1
                if matched > found[state]:
                    found[state] = matched
                continue
            state = matched = 0

    def copied(self) -> list[npt.NDArray[np.int64]]:
        """Of each text: the longest stretch ending at each token that the corpus held."""
        order = np.argsort(-np.array(self.length), kind="stable").tolist()
        found = list(self.found)
        for state in order:
            link = self.link[state]
            if link > 0 and found[state]:
                found[link] = self.length[link]
        for state in reversed(order):
            if not found[state] and self.link[state] > 0:
                found[state] = found[self.link[state]]
        return [np.array([found[state] for state in states], np.int64) for states in self.ends]


def novelty(texts: Sequence[str], corpus: Iterable[str], name: str, cut: Cut = cjk_tokens) -> Measured:
    """Share of 8-grams of the texts that the corpus does not hold, of other lengths beside it, and the longest span.
    `name` says which corpus, for the signature. Raises `score-no-tokens`, `score-too-much`."""
    tokens = [cut(one) for one in texts]
    total = sum(map(len, tokens))
    if total > MOST_TOKENS:
        raise fail("score-too-much", metric="novelty", found=total, limit=MOST_TOKENS)
    automaton = Automaton(tokens)
    documents = read = 0
    for document in corpus:
        words = cut(document)
        documents, read = documents + 1, read + len(words)
        automaton.read(words)
    copied = automaton.copied()
    shares = {n: _new(copied, n) for n in LENGTHS}
    n = next((n for n in (HEADLINE, 4, 2) if shares[n][:, 1].sum()), 0)
    if not n:
        raise fail("score-no-tokens", metric="novelty", count=len(texts), n=2)
    stats = shares[n]
    with np.errstate(invalid="ignore"):
        items = np.where(stats[:, 1] > 0, stats[:, 0] / stats[:, 1], np.nan)
    longest = max(range(len(copied)), key=lambda number: copied[number].max(initial=0))
    return Measured(
        "novelty", float(stats[:, 0].sum() / stats[:, 1].sum()), f"n:{n}|tok:{CJK_NAME}|case:lc|corpus:{name}",
        text("score-why-novelty"), None, items, stats, mean_of_sums,
        extra={**{f"new-{one}": _share(shares[one]) for one in LENGTHS},
               "longest_copied": int(copied[longest].max(initial=0)), "longest_copied_text": longest + 1,
               "corpus_documents": documents, "corpus_tokens": read},
        notes=[_span(tokens[longest], copied[longest])],
    )  # fmt: skip


def _new(copied: Sequence[npt.NDArray[np.int64]], n: int) -> Values:
    """(texts, 2): new n-grams, and all."""
    return np.array([(int((one[n - 1 :] < n).sum()), max(0, len(one) - n + 1)) for one in copied], np.float64)


def _share(stats: Values) -> float | None:
    return float(stats[:, 0].sum() / stats[:, 1].sum()) if stats[:, 1].sum() else None


def _span(tokens: Sequence[str], copied: npt.NDArray[np.int64]) -> str:
    """The longest copied span, in words."""
    if not copied.max(initial=0):
        return text("score-note-no-span")
    end = int(copied.argmax()) + 1
    span = tokens[end - int(copied[end - 1]) : end]
    return text("score-note-span", count=len(span), span=joined(span))


def joined(tokens: Sequence[str]) -> str:
    """Tokens as a person writes them: a space only between words."""
    found = ""
    for token in tokens:
        apart = found and found[-1].isascii() and token[0].isascii()
        found += f" {token}" if apart else token
    return found
