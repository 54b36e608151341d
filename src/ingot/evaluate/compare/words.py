"""Figures and verdicts in words, the same on the page and on the terminal."""

from __future__ import annotations

from ingot.core.format import label
from ingot.core.language import language, text
from ingot.evaluate.statistics import Interval


def metric_label(name: str) -> str:
    return label(name, "zh-TW" if language() == "zh" else "en")


def written(value: float, is_share: bool, signed: bool = False) -> str:
    """A share in percent, other figures with four digits."""
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.1f} %" if is_share else f"{value:{sign}.4g}"


def apart(value: float, is_share: bool, signed: bool = True) -> str:
    """A difference: of shares in points."""
    sign = "+" if signed else ""
    return text("compared-points", value=f"{100 * value:{sign}.1f}") if is_share else f"{value:{sign}.4g}"


def bounds(interval: Interval, is_share: bool) -> str:
    """Of a difference, in its words; what cannot be told says so."""
    if interval.low is None or interval.high is None:
        return text("compared-no-interval")
    low, high = (f"{100 * end:+.1f}" if is_share else f"{end:+.4g}" for end in (interval.low, interval.high))
    return text("compared-interval", low=low, high=high)


def probability(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}"
