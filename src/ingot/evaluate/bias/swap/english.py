"""English: word by word, the case kept. "her" and "his" are two words each, told apart by what follows.

    her book -> his book      I saw her.     -> I saw him.
    his book -> her book      It was his.    -> It was hers.

What follows decides: a word that may stand in front of a noun or be one makes it a determiner; punctuation, the end, or
a word of AFTER_PRONOUN does not. "saw her leave" is the one trap that is closed by a list (BARE_VERBS behind a verb of
perception or causation); "gave her flowers" is not seen, and swapped as if they were her flowers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

WORD = re.compile(r"[A-Za-z]+")

AFTER_PRONOUN = frozenset({
    "a", "an", "the", "this", "that", "these", "those", "some", "any", "every", "each", "no", "another", "enough",
    "i", "you", "he", "she", "it", "we", "they", "me", "him", "her", "us", "them", "who", "whom", "whose", "which",
    "what", "when", "where", "why", "how", "and", "or", "but", "nor", "so", "yet", "because", "if", "unless", "until",
    "while", "although", "though", "since", "before", "after", "as", "than", "whether", "to", "of", "in", "on", "at",
    "by", "for", "from", "with", "without", "about", "into", "onto", "over", "under", "through", "during", "between",
    "against", "toward", "towards", "across", "behind", "beside", "near", "off", "out", "up", "down", "away", "back",
    "again", "here", "there", "now", "then", "today", "tomorrow", "yesterday", "tonight", "is", "are", "was", "were",
    "be", "been", "am", "has", "have", "had", "do", "does", "did", "will", "would", "can", "could", "shall", "should",
    "may", "might", "must", "not", "never", "always", "often", "once", "twice", "too", "also", "soon", "alone",
    "instead", "later", "all", "more", "both", "awake", "asleep",
})  # fmt: skip
"""What cannot stand between a determiner and its noun, or seldom does."""

CAUSING = frozenset({
    "make", "makes", "made", "let", "lets", "help", "helps", "helped", "see", "sees", "saw", "seen", "watch",
    "watches", "watched", "hear", "hears", "heard", "feel", "felt",
})  # fmt: skip
BARE_VERBS = frozenset({
    "go", "leave", "cry", "win", "fall", "smile", "laugh", "sing", "dance", "run", "walk", "work", "study", "read",
    "write", "speak", "talk", "sleep", "eat", "drink", "wait", "stay", "choose", "decide", "finish", "carry", "move",
    "play", "cook", "drive", "feel", "think", "learn", "understand", "improve", "succeed", "grow", "relax",
})  # fmt: skip


def words(text: str) -> Iterator[re.Match[str]]:
    """The words of a text."""
    return WORD.finditer(text)


def swapped(text: str, counterparts: dict[str, str], kept: frozenset[str]) -> str:
    """The text with every word as its counterpart."""
    parts, at = [], 0
    before = ""
    for match in words(text):
        word = match[0].lower()
        found = _pronoun(word, before, text[match.end() :]) or counterparts.get(word)
        if found is not None and word not in kept:
            parts += [text[at : match.start()], _cased(found, match[0])]
            at = match.end()
        before = word
    return "".join(parts) + text[at:]


def _pronoun(word: str, before: str, rest: str) -> str | None:
    if word == "her":
        return "his" if _noun_follows(before, rest) else "him"
    if word == "his":
        return "her" if _noun_follows(before, rest) else "hers"
    return {"him": "her", "hers": "his"}.get(word)


def _noun_follows(before: str, rest: str) -> bool:
    match = re.match(r"[ \n]+([A-Za-z]+)", rest)
    if match is None:
        return False
    following = match[1].lower()
    return following not in AFTER_PRONOUN and not (before in CAUSING and following in BARE_VERBS)


def _cased(word: str, like: str) -> str:
    """In the case of another: HER -> HIS, Her -> His."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
