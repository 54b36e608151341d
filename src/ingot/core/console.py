"""Text for a terminal that cannot command it, with what is learnt in colour, or in marks where there are no colours."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ingot.core.report import Piece

PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
"""Control characters to their pictures: ESC becomes ␛."""
C1 = dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
"""The other control characters, which some terminals obey too, have no pictures."""
OPEN, CLOSE = "⟦", "⟧"
"""Around what is learnt where there are no colours: in a pipe, with NO_COLOR, on a plain terminal."""
STYLES = {
    (False, False): "",
    (False, True): "cyan",
    (True, False): "black on green",
    (True, True): "bold black on green",
}
"""By (learnt, special)."""
BAR = 40
"""Characters of the longest bar of a histogram."""


def visible(text: str) -> str:
    """The text with its control characters made visible; newlines and tabs stay."""
    return text.translate(PICTURES | C1)


def has_colour() -> bool:
    """Whether stdout shows colours, and its user wants them."""
    from rich.console import Console

    console = Console()
    return console.is_terminal and not console.no_color and console.color_system is not None


def paint(pieces: Sequence[Piece]) -> str:
    """Pieces as one text: what is learnt on green, special tokens in cyan; or between ⟦ and ⟧."""
    if not has_colour():
        return _plain(pieces)
    from rich.console import Console
    from rich.text import Text

    console, line = Console(), Text()
    for piece in pieces:
        line.append(visible(piece.text), STYLES[piece.learnt, piece.special])
    with console.capture() as capture:
        console.print(line, end="", soft_wrap=True, markup=False, highlight=False)
    return capture.get()


def _plain(pieces: Sequence[Piece]) -> str:
    runs = ((learnt, "".join(visible(piece.text) for piece in run))
            for learnt, run in groupby(pieces, key=lambda piece: piece.learnt))  # fmt: skip
    return "".join(f"{OPEN}{text}{CLOSE}" if learnt else text for learnt, text in runs)


def histogram(bins: Sequence[tuple[str, int]]) -> str:
    """A line a bin: its name, a bar, how many."""
    width, most = max(len(name) for name, _ in bins), max(count for _, count in bins) or 1
    bars = ("█" * max(round(BAR * count / most), count > 0) + " " * (count > 0) for _, count in bins)
    return "\n".join(f"{name:>{width}} {bar}{count:,}" for (name, count), bar in zip(bins, bars, strict=True))
