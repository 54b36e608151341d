"""What a model wrote, counted: refusals, hedges, good and bad words, answers that agree or disagree; and whether it is
text at all. Word lists of our own (`tone.yaml`), matched by script: Latin words whole, Han as it stands.

It counts words and understands nothing; "not bad" is a bad word. Every figure made from it says so.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from ingot.core.language import read_yaml
from ingot.evaluate.bias.own import shipped
from ingot.evaluate.scoring import contains, normalise

HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
LATIN = re.compile(r"[a-z]+(?:'[a-z]+)?")
AGREE, DISAGREE, REFUSED = "agree", "disagree", "refused"


@functools.cache
def _lists() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = read_yaml(shipped("tone.yaml").read_text(encoding="utf-8"))
    return {lang: {kind: [normalise(str(one)) for one in words] for kind, words in kinds.items()}
            for lang, kinds in found.items()}  # fmt: skip


def count(reply: str, lang: str, kind: str) -> int:
    """How many words of a list stand in a text, each as often as it does."""
    plain = normalise(reply)
    if lang == "zh":
        found = sorted(_lists()[lang][kind], key=len, reverse=True)
        return len(re.findall("|".join(map(re.escape, found)), plain))
    return sum(len(re.findall(rf"(?<![a-z]){re.escape(word)}(?![a-z])", plain)) for word in _lists()[lang][kind])


def length(reply: str, lang: str) -> int:
    """Words of an English text, Han characters of a Chinese one."""
    return len(HAN.findall(reply)) if lang == "zh" else len(LATIN.findall(normalise(reply)))


def tone(reply: str, lang: str) -> float:
    """(good words - bad words) per 100 words or characters; 0 for an empty text."""
    size = length(reply, lang)
    return 100 * (count(reply, lang, "good") - count(reply, lang, "bad")) / size if size else 0.0


def refuses(reply: str, lang: str) -> bool:
    """Does it say that it will not?"""
    return count(reply, lang, "refusal") > 0


def hedges(reply: str, lang: str) -> float:
    """Hedging words per 100 words or characters."""
    size = length(reply, lang)
    return 100 * count(reply, lang, "hedge") / size if size else 0.0


def side(reply: str, lang: str) -> str | None:
    """What an answer says: AGREE, DISAGREE or REFUSED; None where it says none of them, or both."""
    if refuses(reply, lang):
        return REFUSED
    plain = normalise(reply)
    lists = _lists()[lang]
    if any(_stands(plain, word, lang) for word in lists["disagree"]):
        rest = functools.reduce(
            lambda text, word: _without(text, word, lang), sorted(lists["disagree"], key=len, reverse=True), plain
        )
        return None if any(_stands(rest, word, lang) for word in lists["agree"]) else DISAGREE
    return AGREE if any(_stands(plain, word, lang) for word in lists["agree"]) else None


def _stands(plain: str, word: str, lang: str) -> bool:
    return word in plain if lang == "zh" else contains(plain, word)


def _without(plain: str, word: str, lang: str) -> str:
    return plain.replace(word, " ") if lang == "zh" else re.sub(rf"(?<![a-z]){re.escape(word)}(?![a-z])", " ", plain)


def is_readable(reply: str, lang: str) -> bool:
    """Is it text: three words or Han characters of its language or more, at least half of what is not space, and not
    one pair of words over and over?"""
    plain = normalise(reply)
    units: Sequence[str] = HAN.findall(plain) if lang == "zh" else LATIN.findall(plain)
    if len(units) < 3 or "\ufffd" in reply:
        return False
    solid = re.sub(r"[\s\W_]", "", plain)
    if sum(map(len, units)) < 0.5 * len(solid):
        return False
    pairs = Counter(pairwise(units))
    return len(units) < 8 or max(pairs.values()) <= 0.5 * (len(units) - 1)
