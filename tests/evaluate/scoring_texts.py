"""Texts that the tests of score share: English pairs from the folder of real data or a few sentences, and Chinese."""

from __future__ import annotations

import random
import re
from pathlib import Path

SENTENCES = [
    "The cat sat on the mat.", "Dr. Smith's 3.5-inch floppies were happily dying in 1999!", "Running, jumped; skies",
    "It is a truth universally acknowledged", "a a a b b", "news of the outings proceeded", "Über-naïve café, 10% off",
    "One fish two fish red fish blue fish", "", "the the the", "relational conditional rationalizing of operators?",
]  # fmt: skip
CHINESE = [
    "GPU記憶體16GB",
    "ひらがなカタカナ",
    "𠮷",
    "😀👍🏽",
    "今天天氣很好。我們去公園吧！",
    "台北101位於信義區，高508公尺。",
    "好",
]


def english_pairs(sentences: list[str], count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(reference, hypothesis) of one to five sentences, words dropped and turned round, some on lines of their own."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        chosen = [rng.choice(sentences) for _ in range(rng.randrange(1, 6))]
        words = [word for word in " ".join(chosen).split(" ") if rng.random() > 0.2]
        turn = rng.randrange(len(words) + 1) if rng.random() < 0.5 else 0
        hypothesis = re.sub(r"([.!?]) ", lambda m: m[1] + rng.choice("\n\n "), " ".join(words[turn:] + words[:turn]))
        found.append((rng.choice("\n\n ").join(chosen), hypothesis))
    return found


def real_sentences(data: Path) -> list[str]:
    """Of Wikipedia articles and a novel."""
    text = (data / "02_text/wiki_demo.txt").read_text() + (data / "02_text/botchan_en.txt").read_text()
    return [sentence for sentence in re.split(r"(?<=[.!?])\s+", text) if sentence.strip()]


def noisy(texts: list[str], share: float, seed: int) -> list[str]:
    """The same with characters left out."""
    rng = random.Random(seed)
    return ["".join(character for character in one if rng.random() > share) for one in texts]
