"""What a token is to a metric: two tokenizers, sentences, and which of them a text can be scored with.

`default` is rouge-score's: lower case, runs of a-z and 0-9, everything else is lost. It gives Chinese no token at all,
so that two identical sentences score 0. `ingot-cjk` gives the same tokens for plain English and loses no letter: a
token is a Han character of any plane, a kana or Bopomofo letter, a Thai cluster, an emoji; a run of letters and digits
of any script that writes spaces is one token. Punctuation and spaces are no tokens in either.

A choice is made for all texts together, because scores of two tokenizers must not be averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import regex

Language = Literal["en", "zh", "ja", "unspaced", "spaced"]
Cut = Callable[[str], list[str]]

CJK_NAME = "ingot-cjk.1"
"""The number is raised when the same text would be cut otherwise: signatures then differ."""
DEFAULT_NAME = "default"

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}ー々〆〇"
CJK_TOKEN = regex.compile(
    rf"[{UNSPACED}]\p{{M}}*"
    r"|\p{Regional_Indicator}{2}"
    r"|\p{Extended_Pictographic}(?:\p{Emoji_Modifier}|\uFE0F|\u20E3|\u200D\p{Extended_Pictographic})*"
    rf"|[[\p{{L}}\p{{M}}\p{{N}}]--[{UNSPACED}]]+",
    regex.VERSION1,
)
DEFAULT_TOKEN = regex.compile("[a-z0-9]+")
UNSPACED_LETTER = regex.compile(rf"[{UNSPACED}]", regex.VERSION1)
LETTER = regex.compile(r"[\p{L}\p{N}]")
VISIBLE = regex.compile(r"[\p{L}\p{N}\p{Extended_Pictographic}]", regex.VERSION1)
PLAIN = regex.compile("[A-Za-z0-9]")
HAN, KANA = regex.compile(r"\p{Han}"), regex.compile(r"[\p{Hiragana}\p{Katakana}]")

SHARE = 0.2
"""A text belongs to the tokenizer that keeps it when one in five of its characters would be lost to the other. Quoted
names in English stay below, a Chinese sentence full of English product names stays above."""

SENTENCE_END = regex.compile(r"(?<=[。！？!?｡][」』”’）)】》〉]*)(?![」』”’）)】》〉。！？｡])|\n")
"""After the mark and what closes behind it. An ASCII full stop ends no sentence here: 3.14, GPT-4.1."""


def cjk_tokens(text: str) -> list[str]:
    """Tokens of `ingot-cjk`, in lower case."""
    lowered = text.lower()
    return DEFAULT_TOKEN.findall(lowered) if lowered.isascii() else CJK_TOKEN.findall(lowered)


def default_tokens(text: str) -> list[str]:
    """rouge-score's tokens, without a stemmer."""
    return DEFAULT_TOKEN.findall(text.lower())


CUTS: dict[str, Cut] = {DEFAULT_NAME: default_tokens, CJK_NAME: cjk_tokens}


def spaced_cjk(text: str) -> str:
    """The text with a space between any two tokens of `ingot-cjk`, punctuation kept as tokens of its own: what BLEU and
    TER count. Case is kept."""
    return " ".join(SPACED_TOKEN.findall(text))


SPACED_TOKEN = regex.compile(f"{CJK_TOKEN.pattern}|[^\\s]", regex.VERSION1)


def newline_sentences(text: str) -> list[str]:
    """rouge-score's sentences of ROUGE-Lsum: lines."""
    return [line for line in text.split("\n") if line]


def cjk_sentences(text: str) -> list[str]:
    """Lines, and in them what ends in 。！？ with its closing marks."""
    return [sentence for sentence in SENTENCE_END.split(text) if sentence.strip()]


@dataclass(frozen=True)
class Script:
    """How the texts are written. `unspaced`: how many are written without spaces between words; `lost`: how many would
    lose one in five of their characters to the `default` tokenizer. `is_told`: the user named the language."""

    language: Language
    total: int
    unspaced: int
    lost: int
    is_told: bool = False


def script_of(texts: Iterable[str]) -> Script:
    """Look at every text. The language is that of most texts written without spaces, where there are any."""
    total = unspaced = lost = kana = han = 0
    for text in texts:
        total += 1
        if text.isascii():
            continue
        own, apart = len(LETTER.findall(text)), len(UNSPACED_LETTER.findall(text))
        visible, plain = len(VISIBLE.findall(text)), len(PLAIN.findall(text))
        unspaced += own > 0 and apart >= SHARE * own
        lost += visible > 0 and visible - plain >= SHARE * visible
        kana, han = kana + len(KANA.findall(text)), han + len(HAN.findall(text))
    return Script(_language(unspaced, lost, kana, han), total, unspaced, lost)


def _language(unspaced: int, lost: int, kana: int, han: int) -> Language:
    if not unspaced:
        return "spaced" if lost else "en"
    if kana * 5 > han + kana:
        return "ja"
    return "zh" if han else "unspaced"


def num_beyond(texts: Sequence[str]) -> int:
    """Han characters beyond the basic plane, which sacrebleu's `zh` does not cut."""
    return sum(len(BEYOND.findall(text)) for text in texts if not text.isascii())


BEYOND = regex.compile("[\U00020000-\U0003ffff]")
