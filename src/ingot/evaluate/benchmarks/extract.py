"""Finding the answer in what a model wrote: pure functions from a text to the answer as a short string.

`regex` does what lm-eval's filter of that name does. `letter` and `number` are for any writing system: full-width
letters and digits, brackets of all kinds and Chinese numerals are read, and what names several choices names none.
What is not found is INVALID, which no target equals.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal

INVALID = "[invalid]"

STATED = re.compile(
    r"(?:answer|option|choice)\s*(?:is|:|=)?\s*(?:option|choice)?\s*[(\[「『【《]?\s*([A-J])(?![A-Za-z])"
    r"|(?:答案|正解|選項|正確選項|應選|應該選|故選|選擇|選|选)\s*(?:應該是|應為|應是|是|為|为|:|選|选)?\s*(?:選項|选项)?"
    r"\s*[(\[「『【《]?\s*([A-J])(?![A-Za-z])",
    re.IGNORECASE,
)
"""A letter behind words that announce it."""
BRACKETED = re.compile(r"[(\[「『【《]\s*([A-J])\s*[)\]」』】》]", re.IGNORECASE)
LEADING = re.compile(r"^\s*[(\[「『【《]?\s*([A-Ja-j])\s*(?:[)\]」』】》.,:;、。]|\s|$)")
ALONE = re.compile(r"(?<![A-Za-z'])([A-J])(?![A-Za-z'])")
WORD = re.compile(r"(?<![A-Za-z])[AI]\s+(?!(?:is|because|since)\b)[a-z]", re.IGNORECASE)
"""An article or a pronoun, not a choice: "A cat", "I think"."""

DIGITS = {name: value for value, name in enumerate("零一二三四五六七八九")} | {"〇": 0, "兩": 2, "两": 2}
UNITS = {"十": 10, "百": 100, "千": 1000}
LARGE = {"萬": 10**4, "万": 10**4, "億": 10**8, "亿": 10**8}
CHINESE = re.compile(rf"[{''.join((*DIGITS, *UNITS, *LARGE))}]+")
ARABIC = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


def text(reply: str, pattern: str | None = None, pick: int = 0) -> str:
    """All of it, without the space around it."""
    return reply.strip()


def regex(reply: str, pattern: str | None = None, pick: int = 0) -> str:
    """The `pick`-th match; of one with groups the first group that matched."""
    assert pattern is not None
    found = re.findall(pattern, reply)
    if not -len(found) <= pick < len(found):
        return INVALID
    match = found[pick]
    parts = [match] if isinstance(match, str) else [group for group in match if group]
    return parts[0].strip() if parts else INVALID


def letter(reply: str, pattern: str | None = None, pick: int = 0) -> str:
    """The choice that an answer names: announced by words (the last time), else in brackets or alone, when only one
    letter is. "選Ａ", "（Ａ）", "「A」", "答案：A", "The answer is (A)." and "A. because" are all A."""
    folded = unicodedata.normalize("NFKC", reply)
    stated = [first or second for first, second in STATED.findall(folded)]
    if stated:
        return stated[-1].upper()
    bracketed = {each.upper() for each in BRACKETED.findall(folded)}
    if len(bracketed) > 1:
        return INVALID
    plain = WORD.sub(" ", folded)
    leading = LEADING.match(plain)
    named = {leading[1].upper()} if leading else bracketed or set(ALONE.findall(plain))
    return named.pop() if len(named) == 1 else INVALID


def number(reply: str, pattern: str | None = None, pick: int = -1) -> str:
    """The `pick`-th number written, in digits of any width or in Chinese numerals: "１２", "12.0" and "十二" are 12."""
    folded = unicodedata.normalize("NFKC", reply).replace("\u2212", "-")
    found = [(match.start(), _plain(match[0].replace(",", ""))) for match in ARABIC.finditer(folded)]
    found += [(match.start(), value) for match in CHINESE.finditer(folded) if (value := chinese_number(match[0]))]
    values = [value for _, value in sorted(found)]
    return values[pick] if -len(values) <= pick < len(values) else INVALID


def chinese_number(numeral: str) -> str | None:
    """十二 -> "12", 一百零五 -> "105", 兩萬三 -> "23000", 二〇二四 -> "2024"; None for what is no numeral."""
    if all(name in DIGITS for name in numeral):
        return str(int("".join(str(DIGITS[name]) for name in numeral)))
    total, section, digit, last = 0, 0, 0, 0
    for at, name in enumerate(numeral):
        if name in DIGITS:
            digit = DIGITS[name]
        elif name in UNITS:
            ten_alone = name == "十" and (at == 0 or numeral[at - 1] not in DIGITS)
            if digit == 0 and not ten_alone:
                return None
            section, digit = section + (digit or 1) * UNITS[name], 0
        else:
            if section + digit == 0 and total == 0:
                return None
            own, unit = section + digit, LARGE[name]
            total = total + own * unit if unit < last else (total + own) * unit
            section, digit, last = 0, 0, unit
    before = (UNITS | LARGE).get(numeral[-2], 1)  # 一百五 is 150, 二十五 is 25, 一百零五 is 105
    return str(total + section + digit * max(1, before // 10))


def _plain(number: str) -> str:
    """ "12.0" -> "12", "012" -> "12"."""
    value = Decimal(number)
    return str(value.to_integral_value()) if value == value.to_integral_value() else str(value.normalize())


EXTRACTORS: dict[str, Callable[[str, str | None, int], str]] = {
    "text": text,
    "regex": regex,
    "letter": letter,
    "number": number,
}
