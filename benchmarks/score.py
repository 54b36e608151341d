"""Speed of `ingot score`: ROUGE against rouge-score, paired tests against sacrebleu, self-BLEU against all pairs.

    python benchmarks/score.py --data FOLDER                    # writes benchmarks/results/score-DATE.json

FOLDER is that of real data. The sides take turns on the same texts, on one thread; their outputs are compared first,
and a difference ends the run. Reported are medians of CPU seconds, which other work disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import re
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.significance import PairedTest

from ingot.evaluate.metrics.diversity import self_bleu_stats
from ingot.evaluate.metrics.measured import Measured
from ingot.evaluate.metrics.resample import paired
from ingot.evaluate.metrics.rouge import KINDS, Cut, rouge
from ingot.evaluate.metrics.tokens import cjk_tokens, script_of
from ingot.evaluate.metrics.translation import bleu, bleu_of_sums, chrf

Pairs = list[tuple[str, str]]
ROOT = Path(__file__).parents[1]
PAGES = ("docs/score.md", "docs/score.zh-TW.md")


def made_pairs(data: Path, count: int, sentences: int) -> Pairs:
    """(reference, hypothesis): sentences in a row, each on its line, and the same with a fifth of the words dropped."""
    text = (data / "02_text/wiki_demo.txt").read_text() + (data / "02_text/botchan_en.txt").read_text()
    whole = [one for one in re.split(r"(?<=[.!?])\s+", text) if one.strip()]
    rng, found = random.Random(0), []
    for _ in range(count):
        at = rng.randrange(len(whole) - sentences)
        target = "\n".join(whole[at : at + sentences])
        found.append((target, re.sub(r"\S+ ?", lambda m: m[0] if rng.random() > 0.2 else "", target)))
    return found


def race(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each side; they take turns."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 else list(sides)[::-1]:
            begun = time.process_time()
            sides[name]()
            spent[name].append(time.process_time() - begun)
    return {name: round(statistics.median(times), 4) for name, times in spent.items()}


def rouge_speed(pairs: Pairs, stem: bool, rounds: int) -> dict[str, Any]:
    targets, own = [target for target, _ in pairs], [one for _, one in pairs]
    scorer = RougeScorer(list(KINDS), use_stemmer=stem)

    def peer() -> list[Any]:
        return [scorer.score(target, one) for target, one in pairs]

    def ours() -> Any:
        return rouge(own, [targets], Cut("default", stem))

    found, expected = ours(), peer()
    furthest = max(float(np.abs(found[k] - np.array([tuple(one[k]) for one in expected])).max()) for k in KINDS)
    assert furthest <= 1e-12, f"outputs differ by {furthest}"
    seconds = race({"ingot": ours, "rouge-score": peer}, rounds)
    words = sum(len(target.split()) for target in targets) / len(targets)
    return {"pairs": len(pairs), "words": round(words), "stem": stem, "furthest": furthest, "cpu_seconds": seconds,
            "times": round(seconds["rouge-score"] / seconds["ingot"], 1)}  # fmt: skip


def paired_speed(pairs: Pairs, kind: str, draws: int, rounds: int) -> dict[str, Any]:
    """BLEU and chrF; both sides count the n-grams of every text first."""
    targets = [" ".join(target.split()) for target, _ in pairs]
    one = [" ".join(own.split()) for _, own in pairs]
    rng = random.Random(1)
    two = [" ".join(word for word in target.split() if rng.random() > 0.21) for target in targets]
    script = script_of(targets)

    def scores(texts: Sequence[str]) -> list[Measured]:
        return [bleu(texts, [targets], "13a", lowercase=False, reason="", forced=False),
                chrf(texts, [targets], word_order=0, lowercase=False, script=script, force=False)]  # fmt: skip

    def ours() -> list[float]:
        test = {"bs": "bootstrap", "ar": "randomisation"}[kind]
        return [paired(a, b, draws, 12345, test).p_value for a, b in zip(scores(one), scores(two), strict=True)]

    def peer() -> list[float]:
        metrics = {"BLEU": sacrebleu.BLEU(), "chrF": sacrebleu.CHRF()}
        _, found = PairedTest([("one", one), ("two", two)], metrics, [targets], kind, draws)()
        return [found[name][1].p_value for name in ("BLEU", "chrF2")]

    assert np.allclose(ours(), peer(), atol=1e-12), "p-values differ"
    seconds = race({"ingot": ours, "sacrebleu": peer}, rounds)
    return {"texts": len(pairs), "draws": draws, "p_values": ours(), "cpu_seconds": seconds,
            "times": round(seconds["sacrebleu"] / seconds["ingot"], 1)}  # fmt: skip


def drawing_speed(pairs: Pairs, kind: str, draws: int, rounds: int) -> dict[str, Any]:
    """The same with what is summed of each text made beforehand, on both sides."""
    targets = [" ".join(target.split()) for target, _ in pairs]
    systems = [" ".join(own.split()) for _, own in pairs], [target.replace("the", "a") for target in targets]
    script = script_of(targets)
    made = [
        [bleu(texts, [targets], "13a", lowercase=False, reason="", forced=False),
         chrf(texts, [targets], word_order=0, lowercase=False, script=script, force=False)]
        for texts in systems
    ]  # fmt: skip
    metrics: dict[str, Any] = {"BLEU": sacrebleu.BLEU(), "chrF": sacrebleu.CHRF()}
    for at, metric in enumerate(metrics.values()):
        metric.num_refs = 1
        ready = {id(texts): made[number][at].stats.astype(int).tolist() for number, texts in enumerate(systems)}
        metric._extract_corpus_statistics = lambda texts, _, ready=ready: ready[id(texts)]

    def ours() -> list[float]:
        test = {"bs": "bootstrap", "ar": "randomisation"}[kind]
        return [paired(a, b, draws, 12345, test).p_value for a, b in zip(*made, strict=True)]

    def peer() -> list[float]:
        _, found = PairedTest([("one", systems[0]), ("two", systems[1])], metrics, [targets], kind, draws)()
        return [found[name][1].p_value for name in ("BLEU", "chrF2")]

    assert np.allclose(ours(), peer(), atol=1e-12), "p-values differ"
    seconds = race({"ingot": ours, "sacrebleu": peer}, rounds)
    return {"texts": len(pairs), "draws": draws, "p_values": ours(), "cpu_seconds": seconds,
            "times": round(seconds["sacrebleu"] / seconds["ingot"], 1)}  # fmt: skip


def self_bleu_speed(data: Path, few: int, many: int) -> dict[str, Any]:
    """Exact against all pairs on a few texts; the time of many."""
    poems = [json.loads(line)["text"] for line in (data / "02_text/zh_hant/tang_poems.jsonl").open()]
    tokens = [cjk_tokens(poem) for poem in poems[:many]]
    metric = sacrebleu.BLEU(tokenize="none", effective_order=True)
    lines = [" ".join(one) for one in tokens[:few]]

    def ours() -> Any:
        return bleu_of_sums(self_bleu_stats(tokens[:few]), True)

    def peer() -> Any:
        return [metric.sentence_score(line, lines[:at] + lines[at + 1 :]).score for at, line in enumerate(lines)]

    furthest = float(np.abs(ours() - np.array(peer())).max())
    assert furthest < 1e-9, f"outputs differ by {furthest}"
    seconds = race({"ingot": ours, "sacrebleu": peer}, 1)
    begun = time.process_time()
    self_bleu_stats(tokens)
    return {"texts": few, "furthest": furthest, "cpu_seconds": seconds,
            "times": round(seconds["sacrebleu"] / seconds["ingot"]), "many": many,
            "cpu_seconds_of_many": round(time.process_time() - begun, 1)}  # fmt: skip


HEADS = {
    "en": ("what", "ingot, s", "peer, s", "times as fast", "largest difference"),
    "zh": ("項目", "ingot，秒", "對照，秒", "快幾倍", "最大差異"),
}
LINES = {
    "en": {
        "rouge": "ROUGE-1, 2, L, Lsum of {pairs:,} pairs of about {words} words{stem}; rouge-score",
        "bootstrap": "paired bootstrap, BLEU and chrF, {texts} texts, {draws:,} draws; sacrebleu",
        "randomisation": "approximate randomisation, the same, {draws:,} draws; sacrebleu",
        "bootstrap_draws": "the bootstrap's draws alone, what is summed made before; sacrebleu",
        "randomisation_draws": "the randomisation's draws alone; sacrebleu",
        "self_bleu": "self-BLEU of {texts} poems; sacrebleu on every text",
        "many": "Self-BLEU of {many:,} poems, exact: {cpu_seconds_of_many} s.",
        "stem": ", stemmed",
        "note": "Medians of CPU seconds in turns on one thread, cutting of texts included; {date}, {hardware}.",
    },
    "zh": {
        "rouge": "ROUGE-1、2、L、Lsum，{pairs:,} 對、每筆約 {words} 詞{stem}；rouge-score",
        "bootstrap": "成對拔靴法，BLEU 與 chrF，{texts} 筆，{draws:,} 次抽樣；sacrebleu",
        "randomisation": "近似隨機化，同上，{draws:,} 次抽樣；sacrebleu",
        "bootstrap_draws": "只算拔靴法的抽樣，每筆的統計量事先算好；sacrebleu",
        "randomisation_draws": "只算近似隨機化的抽樣；sacrebleu",
        "self_bleu": "{texts} 首詩的 self-BLEU；sacrebleu 逐筆計算",
        "many": "{many:,} 首詩的 self-BLEU，精確值：{cpu_seconds_of_many} 秒。",
        "stem": "，取詞幹",
        "note": "單一執行緒輪流執行的 CPU 秒數中位數，含切分；{date}，{hardware}。",
    },
}  # fmt: skip


def block(result: dict[str, Any], language: str) -> str:
    """The table of a page."""
    words = LINES[language]
    measured = [("rouge", one) for one in result["rouge"]]
    measured += [
        (name, result[name])
        for name in ("bootstrap", "bootstrap_draws", "randomisation", "randomisation_draws", "self_bleu")
    ]
    rows = [f"| {' | '.join(HEADS[language])} |", "|---|---:|---:|---:|---:|"]
    for name, one in measured:
        label = words[name].format(**{**one, "stem": words["stem"] if one.get("stem") else ""})
        own, peer = (one["cpu_seconds"][side] for side in (one["cpu_seconds"]))
        rows.append(f"| {label} | {own:.3g} | {peer:.3g} | {one['times']:.3g} | {one.get('furthest', 0):.1g} |")
    return "\n".join([*rows, "", words["many"].format(**result["self_bleu"]), words["note"].format(**result)]) + "\n"


def newest() -> dict[str, Any]:
    """The latest committed result."""
    found: dict[str, Any] = json.loads(sorted((ROOT / "benchmarks/results").glob("score-*.json"))[-1].read_text())
    return found


def write_pages(result: dict[str, Any]) -> None:
    for page in PAGES:
        path, table = ROOT / page, block(result, "zh" if "zh" in page else "en")
        before, _, rest = path.read_text().partition("<!-- figures: score -->\n")
        path.write_text(f"{before}<!-- figures: score -->\n{table}<!-- end -->{rest.partition('<!-- end -->')[2]}")


def processor() -> str:
    """The name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    short, long = made_pairs(options.data, 1000, 3), made_pairs(options.data, 50, 25)
    result = {
        "date": datetime.date.today().isoformat(),
        "hardware": f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("rouge-score", "sacrebleu", "numpy")},
        "rouge": [rouge_speed(pairs, stem, options.rounds) for pairs in (short, long) for stem in (False, True)],
        "bootstrap": paired_speed(short[:500], "bs", 1000, options.rounds),
        "bootstrap_draws": drawing_speed(short[:500], "bs", 1000, options.rounds),
        "randomisation": paired_speed(short[:500], "ar", 10_000, 1),
        "randomisation_draws": drawing_speed(short[:500], "ar", 10_000, 1),
        "self_bleu": self_bleu_speed(options.data, 150, 10_000),
    }
    path = Path(__file__).parent / "results" / f"score-{result['date']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    write_pages(result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
