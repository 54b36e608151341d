"""Stop strings in streamed text: nothing of the stop string (but where it was asked for), or after it, ever leaves.

Works on text, so that a stop string may begin and end inside tokens. Only what could still become a stop string is
held back: the longest end of the text that begins one. When several match, the one that is complete first wins (at
the same character: the longest), which makes the result independent of how the text was cut into pieces.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopGate:
    """Push text in, take text that is safe to show. `found` is the stop string that ended it; `shown`: let it
    out, too."""

    def __init__(self, stops: Sequence[str], shown: bool = False) -> None:
        self.stops = stops
        self.shown = shown
        self.found: str | None = None
        self._held = ""

    def push(self, text: str) -> str:
        """The text that may be shown now; empty once a stop string was found."""
        if self.found is not None:
            return ""
        text = self._held + text
        matches = [(begin + len(stop), begin, stop) for stop in self.stops if (begin := text.find(stop)) >= 0]
        if matches:
            end, begin, self.found = min(matches)
            self._held = ""
            return text[: end if self.shown else begin]
        keep = max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back, when no stop string came of it."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper beginning of `stop` that `text` ends with."""
    longest = min(len(stop) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
