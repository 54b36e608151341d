"""How values look to a person: aligned decimals, percents, bytes, durations, intervals. No HTML here.

The unit comes from the report; without one the name decides: `*bytes`, `*seconds`, `*accuracy`, `*share`, `*rate`.
A value too small for its column's decimals is shown in scientific notation rather than as a zero.
"""

from __future__ import annotations

import functools
import math
import re
from importlib import resources

from ingot.core.errors import fail
from ingot.core.language import read_yaml
from ingot.core.report import Cell, Interval, Language, Unit, plain_number

MISSING = "–"
BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
ENDINGS: dict[str, Unit] = {
    "bytes": "bytes",
    "seconds": "seconds",
    "accuracy": "percent",
    "share": "percent",
    "rate": "percent",
    "agreement": "percent",
}


def unit_of(name: str) -> Unit:
    """The unit a name tells: its last word, after dots, spaces and underscores."""
    words = name.replace(".", "_").replace(" ", "_").lower().split("_")
    rate = len(words) > 1 and words[-1] == "rate" and words[-2] == "learning"
    return "number" if rate else ENDINGS.get(words[-1], "number")


def show(value: Cell, unit: Unit = "number", language: Language = "en", decimals: int | None = None) -> str:
    """A value as text. `decimals` comes from `decimals_of` its column, so that the column lines up."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "✓" if value else "✗"
    if isinstance(value, str):
        return value
    if isinstance(value, Interval):
        low, high = (show(end, unit, language, decimals) for end in (value.low, value.high))
        return f"{show(value.value, unit, language, decimals)} [{low}, {high}]"
    return _number(value, unit, language, decimals)


def _number(value: float, unit: Unit, language: Language, decimals: int | None) -> str:
    if unit == "percent":
        return f"{value * 100:.{1 if decimals is None else decimals}f}%"
    if unit == "bytes":
        return show_bytes(value)
    if unit == "seconds":
        return show_seconds(value, language)
    if isinstance(value, int):
        return f"{value:,}"
    return _float(value, decimals_of([value]) if decimals is None else decimals)


def _float(value: float, decimals: int) -> str:
    """Fixed decimals, scientific where they would hide a number that is not zero."""
    hidden = value != 0 and abs(value) < 10.0**-decimals
    return (f"{value:.1e}" if hidden or abs(value) >= 1e9 else f"{value:,.{decimals}f}").replace("-", "−", 1)


def decimals_of(values: list[Cell], unit: Unit = "number") -> int:
    """How many decimals give the largest of these numbers four significant digits: 0 to 4."""
    if unit == "percent":
        return 1
    sizes = [abs(number) for value in values if (number := plain_number(value)) and not isinstance(value, int)]
    return min(4, max(0, 3 - math.floor(math.log10(max(sizes))))) if sizes else 0


def show_bytes(size: float) -> str:
    """1234567 -> '1.2 MB' (decimal units)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def parse_bytes(size: str) -> int:
    """ "8GiB", "512 MB", "4g" -> bytes. Raises `bad-size`."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?i?)b?", size.strip().lower())
    if match is None or match[2] not in BYTES or not float(match[1]) > 0:
        raise fail("bad-size", found=size)
    return int(float(match[1]) * BYTES[match[2]])


def show_seconds(seconds: float, language: Language = "en") -> str:
    """125 -> '2 min 5 s'; below a minute with one decimal, below a tenth in milliseconds."""
    hour, minute, second, milli = (
        (" 小時", " 分", " 秒", " 毫秒") if language == "zh-TW" else (" h", " min", " s", " ms")
    )
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.1f}{milli}"
    if seconds < 59.95:
        return f"{seconds:.1f}{second}"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{minute} {rest}{second}"
    return f"{minutes // 60}{hour} {minutes % 60}{minute}"


def visible(text: str, keep: str = "") -> str:
    """The text with its control characters as pictures (a NUL as U+2400), except those in `keep`."""
    return "".join(chr(0x2400 + ord(c)) if c < " " and c not in keep else "␡" if c == "\x7f" else c for c in text)


def label(name: str, language: Language) -> str:
    """A number's or column's name for people: "bits_per_byte" -> "bits per byte", or its Chinese where we have it."""
    if language == "zh-TW":
        known = _chinese()
        return known.get(name) or " · ".join(known.get(part, part.replace("_", " ")) for part in name.split("."))
    return " · ".join(part.replace("_", " ") for part in name.split("."))


@functools.cache
def _chinese() -> dict[str, str]:
    found: dict[str, str] = read_yaml(resources.files("ingot.core").joinpath("labels.yaml").read_text(encoding="utf-8"))
    return found
