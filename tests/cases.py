"""Parametrised tests of which one case is proof enough while one works: the others run with the whole suite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first_fast(names: str | tuple[str, ...], cases: Iterable[Any], **more: Any) -> pytest.MarkDecorator:
    """`pytest.mark.parametrize` whose cases but the first are slow."""
    first, *others = cases
    slow = [pytest.param(*([case] if isinstance(names, str) else case), marks=pytest.mark.slow) for case in others]
    return pytest.mark.parametrize(names, [first, *slow], **more)
