"""The Porter stemmer as rouge-score has it: nltk's, with its extensions.

Porter, "An algorithm for suffix stripping", Program 14 (1980), with the author's later changes and nltk's: a table of
irregular words, and short words in -ies and -ied. Words are lower-case letters and digits; a digit counts as a
consonant. Written from the paper's rules; the tests compare every word of a corpus with nltk's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

Rule = tuple[str, str, Callable[[str], bool] | None]
"""Suffix, what replaces it, and the condition on the rest."""

IRREGULAR = {
    "sky": "sky", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news",
    "innings": "inning", "inning": "inning", "outings": "outing", "outing": "outing", "cannings": "canning",
    "canning": "canning", "howe": "howe", "proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
}  # fmt: skip
SHORTEST = 4
"""rouge-score leaves words of up to three letters alone."""


@lru_cache(maxsize=1 << 17)
def stem(word: str) -> str:
    """The stem of a word of four letters or more; shorter ones as they are."""
    if len(word) < SHORTEST:
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    for step in (_plurals, _past, _final_y, _step2, _step3, _step4, _final_e, _double_l):
        word = step(word)
    return word


def _kinds(word: str) -> str:
    """c for a consonant and v for a vowel; y is a vowel behind a consonant."""
    kinds = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and kinds.endswith("c"))
        kinds += "v" if vowel else "c"
    return kinds


def _measure(word: str) -> int:
    return _kinds(word).count("vc")


def _has_measure(word: str) -> bool:
    return _measure(word) > 0


def _is_long(word: str) -> bool:
    return _measure(word) > 1


def _has_vowel(word: str) -> bool:
    return "v" in _kinds(word)


def _is_double(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _kinds(word)[-1] == "c"


def _is_short(word: str) -> bool:
    """Consonant, vowel, consonant at the end, the last not w, x or y; or vowel and consonant alone."""
    kinds = _kinds(word)
    return (kinds.endswith("cvc") and word[-1] not in "wxy") or kinds == "vc"


def _apply(word: str, rules: list[Rule]) -> str:
    """The first rule whose suffix fits decides, whether its condition holds or not."""
    for suffix, replacement, condition in rules:
        if word.endswith(suffix):
            rest = word[: len(word) - len(suffix)]
            return rest + replacement if condition is None or condition(rest) else word
    return word


def _plurals(word: str) -> str:
    if word.endswith("ies") and len(word) == 4:
        return word[:-1]
    return _apply(word, [("sses", "ss", None), ("ies", "i", None), ("ss", "ss", None), ("s", "", None)])


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _has_measure(word[:-3]) else word
    for suffix in ("ed", "ing"):
        rest = word.removesuffix(suffix)
        if rest != word and _has_vowel(rest):
            return _mended(rest)
    return word


def _mended(word: str) -> str:
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _is_double(word):
        return word if word[-1] in "lsz" else word[:-1]
    return word + "e" if _measure(word) == 1 and _is_short(word) else word


def _final_y(word: str) -> str:
    """nltk: only behind a consonant that is not the first letter."""
    rest = word[:-1]
    return rest + "i" if word.endswith("y") and len(rest) > 1 and _kinds(rest)[-1] == "c" else word


def _step2(word: str) -> str:
    if word.endswith("alli") and _has_measure(word[:-4]):
        return _step2(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _has_measure(word[:-3]) else word
    return _apply(word, STEP2)


def _step3(word: str) -> str:
    return _apply(word, STEP3)


def _step4(word: str) -> str:
    return _apply(word, STEP4)


def _final_e(word: str) -> str:
    rest = word[:-1]
    if not word.endswith("e"):
        return word
    return rest if _is_long(rest) or (_measure(rest) == 1 and not _is_short(rest)) else word


def _double_l(word: str) -> str:
    return word[:-1] if word.endswith("ll") and _is_long(word[:-1]) else word


STEP2: list[Rule] = [(suffix, replacement, _has_measure) for suffix, replacement in (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"),
)]  # fmt: skip
STEP3: list[Rule] = [(suffix, replacement, _has_measure) for suffix, replacement in (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
)]  # fmt: skip
STEP4: list[Rule] = [
    *((suffix, "", _is_long) for suffix in ("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment",
                                            "ent")),
    ("ion", "", lambda rest: _is_long(rest) and rest[-1] in "st"),
    *((suffix, "", _is_long) for suffix in ("ou", "ism", "ate", "iti", "ous", "ive", "ize")),
]  # fmt: skip
