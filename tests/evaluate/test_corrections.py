"""Corrections for many tests agree with statsmodels."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from ingot.evaluate.corrections import benjamini_hochberg, holm

multitest = partial(pytest.importorskip, "statsmodels.stats.multitest")  # when a test first asks


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_they_agree_with_statsmodels(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels sweeps all memory after each call
    generator = np.random.default_rng(count)
    for _ in range(50):
        p_values = [float(p) for p in generator.random(count) ** 4]
        p_values[-1] = p_values[0]  # a tie
        for own, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
            expected = multitest().multipletests(p_values, method=method)[1]
            assert own(p_values) == pytest.approx(list(expected), abs=1e-12)


def test_nothing_stays_nothing_and_one_stays_as_it_is() -> None:
    assert holm([]) == benjamini_hochberg([]) == []
    assert holm([0.3]) == benjamini_hochberg([0.3]) == [0.3]


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    for method in (holm, benjamini_hochberg):
        with pytest.raises(AssertionError, match="not all are probabilities"):
            method([0.5, wrong])
