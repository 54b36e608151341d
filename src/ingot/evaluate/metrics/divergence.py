"""How far generated texts are, as a whole, from human ones: MAUVE's divergence frontier over features of ours.

Pillutla et al., "MAUVE" (NeurIPS 2021): texts become points, points are put into clusters, and the area under the curve
of exp(-c KL) between either side's histogram and their mixtures is 1 where both sides are alike and falls to 0. The
published figures use GPT-2's hidden states; here the points are hashed n-grams of characters, or the hidden states of a
model of yours, so values compare only with the same signature, and never with published ones.

Even two halves of one set score a little below 1, more so the fewer texts there are. Clusters do not see which side a
text is from, so sides can be shuffled over the same clusters: the report shows what equals would score, and p.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ingot.core.language import text
from ingot.core.progress import warn
from ingot.evaluate.metrics.measured import Measured
from ingot.evaluate.statistics import Interval, Values, Z

Labels = npt.NDArray[np.int64]
FEW = 500
"""Texts a side below which a warning is given."""
SCALE = 5.0
"""MAUVE's c."""
MIXTURES = 25
MOST_CLUSTERS = 500
TEXTS_A_CLUSTER = 10
"""MAUVE's own: a tenth of the texts of the smaller side."""
HASHED = 1024
LENGTHS = (1, 2, 3)
COMPONENTS = 64
SHUFFLES = 200
ROUNDS = 50


def character_features(texts: Sequence[str]) -> Values:
    """(texts, HASHED): square roots of counts of hashed character 1- to 3-grams, each row of length one."""
    found = np.zeros((len(texts), HASHED))
    for row, one in zip(found, texts, strict=True):
        grams = Counter(one[at : at + n] for n in LENGTHS for at in range(len(one) - n + 1))
        for gram, count in grams.items():
            row[zlib.crc32(gram.encode("utf-8", "surrogatepass")) % HASHED] += count
    found = np.sqrt(found)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))


def divergence(texts: Sequence[str], human: Sequence[str], features: tuple[Values, Values], name: str, seed: int,
               draws: int) -> Measured:  # fmt: skip
    """MAUVE over given points of both sides, its interval over texts, and what equals would score."""
    for side in (texts, human):
        if len(side) < FEW:
            warn("score-few-for-divergence", count=len(side), least=FEW)
    count = len(texts)
    clusters = max(2, min(MOST_CLUSTERS, min(count, len(human)) // TEXTS_A_CLUSTER))
    labels = cluster(_components(np.concatenate(features)), clusters, seed)
    value = area(_histogram(labels[:count], clusters), _histogram(labels[count:], clusters))
    equals, below = _of_equals(labels, count, clusters, value, seed)
    interval = _interval(labels, count, clusters, value, draws, seed)
    return Measured(
        "divergence", value, f"features:{name}|clusters:{clusters}|c:{SCALE:g}|texts:{count}+{len(human)}|seed:{seed}",
        text("score-why-features"), True, interval=interval, extra={"of_equals": equals, "p_value": below},
        notes=[text("score-note-divergence", equals=f"{equals:.4f}")],
    )  # fmt: skip


def _components(points: Values) -> Values:
    """Principal components: most of the variance in a few numbers, as in MAUVE."""
    centred = points - points.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred if centred.shape[1] <= len(centred) else centred @ centred.T)
    kept = slice(-min(COMPONENTS, len(values)), None)
    if centred.shape[1] <= len(centred):
        return np.asarray(centred @ vectors[:, kept])
    return np.asarray(vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0.0)))


def cluster(points: Values, count: int, seed: int) -> Labels:
    """k-means from k-means++ starts (Arthur and Vassilvitskii 2007): the cluster of each point."""
    generator = np.random.default_rng(seed)
    centres = points[[int(generator.integers(len(points)))]]
    nearest = ((points - centres[0]) ** 2).sum(axis=1)
    while len(centres) < count and nearest.sum() > 0:
        chosen = points[generator.choice(len(points), p=nearest / nearest.sum())]
        centres = np.concatenate([centres, chosen[None]])
        nearest = np.minimum(nearest, ((points - chosen) ** 2).sum(axis=1))
    labels = np.zeros(len(points), np.int64)
    for _ in range(ROUNDS):
        distances = (centres**2).sum(axis=1) - 2 * points @ centres.T
        again = distances.argmin(axis=1)
        if (again == labels).all():
            break
        labels = again
        sizes = np.bincount(labels, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, points)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
    return labels


def _histogram(labels: Labels, clusters: int) -> Values:
    """Shares of clusters, each count raised by one half (Krichevsky and Trofimov), as MAUVE does."""
    counts = np.bincount(labels, minlength=clusters) + 0.5
    return np.asarray(counts / counts.sum())


def area(p: Values, q: Values) -> float:
    """Area under the divergence frontier of two histograms without zeros."""
    weights = np.linspace(1e-6, 1 - 1e-6, MIXTURES)[:, None]
    mixed = weights * p + (1 - weights) * q
    x = np.exp(-SCALE * (q * np.log(q / mixed)).sum(axis=1))
    y = np.exp(-SCALE * (p * np.log(p / mixed)).sum(axis=1))
    curve = np.array([(0.0, 1.0), *zip(x, y, strict=True), (1.0, 0.0)])
    order = np.lexsort((-curve[:, 1], curve[:, 0]))
    return float(np.trapezoid(curve[order, 1], curve[order, 0]))


def _of_equals(labels: Labels, count: int, clusters: int, value: float, seed: int) -> tuple[float, float]:
    """Mean score of shuffled sides, and how often they score as low as the texts do."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(SHUFFLES):
        mixed = generator.permutation(labels)
        found.append(area(_histogram(mixed[:count], clusters), _histogram(mixed[count:], clusters)))
    return float(np.mean(found)), (int((np.array(found) <= value).sum()) + 1) / (SHUFFLES + 1)


def _interval(labels: Labels, count: int, clusters: int, value: float, draws: int, seed: int) -> Interval:
    """Texts drawn again on either side, clusters kept. A second draw adds the noise of the first once more and lies
    lower, so the spread of the draws is taken, around the value."""
    generator, found = np.random.default_rng(seed), []
    own, human = labels[:count], labels[count:]
    for _ in range(draws):
        sides = generator.choice(own, len(own)), generator.choice(human, len(human))
        found.append(area(*(_histogram(side, clusters) for side in sides)))
    half = Z * float(np.std(found, ddof=1))
    return Interval(value, max(0.0, value - half), min(1.0, value + half))
