"""Traditional Chinese: the longest word of the list at every place, because nothing separates words.

他 and 她 change; 牠 and 它 are no person and stay; 其他, 吉他 and the like hold 他 and are kept. 先生 is two words: a
husband behind a pronoun or 的 (她先生 -> 他太太), a title behind a surname (王先生 -> 王小姐). 王太太 names her by her
husband and has no counterpart.
"""

from __future__ import annotations

import re

TITLES = {"先生": "小姐", "小姐": "先生"}
SPOUSES = {"先生": "太太", "太太": "先生"}
SPOUSE_OWNERS = frozenset("他她我你妳您的們")


def swapped(text: str, counterparts: dict[str, str], kept: frozenset[str]) -> str:
    """The text with every word as its counterpart."""
    pattern = _pattern(counterparts, kept)
    return pattern.sub(lambda match: _one(text, match, counterparts, kept), text)


def title_without_counterpart(text: str) -> str | None:
    """王太太, and 小姐 behind a pronoun (我小姐 is nobody's counterpart): words that lead nowhere and back."""
    for match in re.finditer("太太|小姐", text):
        owned = text[match.start() - 1 : match.start()] in SPOUSE_OWNERS and match.start() > 0
        if owned != (match[0] == "太太"):
            return text[max(0, match.start() - 1) : match.end()]
    return None


def _pattern(counterparts: dict[str, str], kept: frozenset[str]) -> re.Pattern[str]:
    every = sorted({*counterparts, *kept, *TITLES, *SPOUSES}, key=lambda word: (-len(word), word))
    return re.compile("|".join(map(re.escape, every)))


def _one(text: str, match: re.Match[str], counterparts: dict[str, str], kept: frozenset[str]) -> str:
    word, begin = match[0], match.start()
    if word in kept:
        return word
    if word in TITLES or word in SPOUSES:
        owned = begin > 0 and text[begin - 1] in SPOUSE_OWNERS
        return (SPOUSES if owned else TITLES).get(word, word)
    return counterparts[word]
