"""A classifier that never sees the model: can members be told by their text alone?

Logistic regression on hashed runs of one to three characters and the length, cross-validated. If it does better than
chance, members and others differ by topic, date or form, and an attack that "works" may have found only that (Meeus et
al. 2024; Duan et al. 2024).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ingot.evaluate.statistics import Values

BUCKETS = 4096
FOLDS = 5
STRENGTH = 1.0
"""Of the pull towards no weights at all, per document."""


def blind_scores(texts: Sequence[str], is_member: NDArray[np.bool_], seed: int) -> Values:
    """For each text how much a classifier trained on the others takes it for a member, as its rank in its fold."""
    features = np.stack([_features(text) for text in texts])
    features[:, -1] = (features[:, -1] - features[:, -1].mean()) / (features[:, -1].std() + 1e-9)
    scores = np.zeros(len(texts))
    folds = _folds(is_member, seed)
    for fold in range(FOLDS):
        inside = folds == fold
        weights = _fit(features[~inside], is_member[~inside])
        found = features[inside] @ weights
        scores[inside] = np.argsort(np.argsort(found)) / max(1, inside.sum())
    return scores


def _features(text: str) -> Values:
    """Frequencies of character runs, as a vector of length one, and log of the length."""
    found = np.zeros(BUCKETS + 1)
    for n in (1, 2, 3):
        for at in range(len(text) - n + 1):
            found[zlib.crc32(text[at : at + n].encode("utf-8", "surrogatepass")) % BUCKETS] += 1
    found = np.sqrt(found)
    found /= np.linalg.norm(found) + 1e-9
    found[-1] = np.log1p(len(text))
    return found


def _folds(is_member: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """The fold of each text; members and others are spread evenly."""
    generator = np.random.default_rng(seed)
    folds = np.zeros(len(is_member), np.int64)
    for side in (True, False):
        places = np.flatnonzero(is_member == side)
        folds[places] = generator.permutation(len(places)) % FOLDS
    return folds


def _fit(features: Values, is_member: NDArray[np.bool_]) -> Values:
    """Weights of the logistic regression with a quadratic penalty; the last feature is the length, without a constant:
    scores are only ranked."""
    from scipy.optimize import minimize

    signs = np.where(is_member, 1.0, -1.0)

    def loss(weights: Values) -> tuple[float, Values]:
        margins = signs * (features @ weights)
        slopes = -signs / (1 + np.exp(np.clip(margins, -500, 500)))
        value = np.logaddexp(0, -margins).sum() + STRENGTH / 2 * float(weights @ weights)
        return value, features.T @ slopes + STRENGTH * weights

    result = minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    weights: Values = result.x
    return weights
