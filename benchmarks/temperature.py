"""Is the temperature that `tune-temperature` picks as good as the best of its grid, on questions it never saw?

    INGOT_DATA=DATA python benchmarks/temperature.py              # writes benchmarks/results/temperature-DATE.json

Three tasks in the style of the stories that stories260K (real weights, 260 thousand parameters) was trained on: whose
name it is, what somebody has, and how a sentence that was read once goes on. Of each, half of the questions tune, by
right answers and by entropy alone; the other half is asked at every temperature with other random numbers. A choice
holds if its accuracy there is within one standard error of the best temperature's, or if the verb says that it cannot
tell. Answers of single samples and of the majority are both counted.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import ingot
from ingot.evaluate.statistics import Values
from ingot.evaluate.temperature.choose import pair_errors
from ingot.evaluate.temperature.decide import by_entropy, by_labels
from ingot.evaluate.temperature.items import halves, read_items
from ingot.evaluate.temperature.options import GRID, Aim
from ingot.evaluate.temperature.scores import score

ROOT = Path(__file__).parents[1]
STORIES = "01_models/stories260K"
NAMES = ("Lily", "Tom", "Ben", "Mia", "Sam", "Max", "Anna", "Tim", "Sue", "Jack", "Sara", "Bob")
THINGS = ("ball", "doll", "car", "cat", "dog", "hat", "book", "box", "bird", "tree", "boat", "cake")
LOOKS = ("red", "big", "blue", "small", "soft", "pretty", "shiny", "green")
Record = dict[str, str]


def name(who: str, other: str, thing: str, look: str) -> Record:
    """Whose name was told."""
    story = f"Once upon a time, there was a little child named {who}. One day, {who} went to the park with a {look}"
    return {"prompt": f'{story} {thing}. A bird said, "Hello! What is your name?" "My name is', "answer": who}


def thing(who: str, other: str, thing: str, look: str) -> Record:
    """What somebody has."""
    story = f"Once upon a time, {who} had a {look} {thing}. {who} loved the {thing} very much. One day, {other} came to"
    return {"prompt": f'{story} play. {who} said, "Look at my {look}', "answer": thing}


def again(who: str, other: str, thing: str, look: str) -> Record:
    """How a sentence goes on that was read before."""
    sentence = f"{who} and {other} saw a {look} {thing} under the"
    return {"prompt": f"One day, {sentence} table. They were happy. {who} and {other} saw a {look}", "answer": thing}


AIMS: list[Aim] = ["single", "majority"]
TASKS = {"name": name, "thing": thing, "again": again}


def questions(task: str, count: int, seed: int) -> list[Record]:
    """Different questions in a seeded order."""
    generator, made = random.Random(f"{task} {seed}"), {}
    while len(made) < count:
        who, other = generator.sample(NAMES, 2)
        record = TASKS[task](who, other, generator.choice(THINGS), generator.choice(LOOKS))
        made[record["prompt"]] = record
    return list(made.values())


def write(path: Path, records: list[Record]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def common(args: argparse.Namespace) -> dict[str, Any]:
    return {"samples": args.samples, "max_tokens": args.max_tokens, "slots": 128,
            "limit": args.questions}  # fmt: skip


def held(temperature: float | None, values: Values) -> dict[str, Any]:
    """How far a choice is from the best of the grid on fresh questions. The bar is the standard error of the best
    one's accuracy; the error of the difference of the two, question by question, is stricter and shown beside it."""
    means = values.mean(0)
    best = int(means.argmax())
    error = float(values[:, best].std(ddof=1)) / len(values) ** 0.5
    found: dict[str, Any] = {"temperature": temperature, "best": GRID[best], "best_accuracy": round(means[best], 4),
                             "standard_error": round(error, 4)}  # fmt: skip
    if temperature is None:
        return found | {"says": "cannot tell", "holds": True}
    place = GRID.index(temperature)
    gap, paired = float(means[best] - means[place]), float(pair_errors(values)[best, place])
    return found | {"accuracy": round(means[place], 4), "gap": round(gap, 4), "holds": gap <= error,
                    "paired_error": round(paired, 4), "holds_paired": gap <= paired}  # fmt: skip


def measure(task: str, model: Path, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Tune on one half, ask the other. Every way of tuning decides from the same samples."""
    records = questions(task, 2 * args.questions, args.seed)
    tuning = write(work / f"{task}.jsonl", records[: args.questions])
    checking = write(work / f"{task}-fresh.jsonl", records[args.questions :])
    started = time.perf_counter()
    told = ingot.tune_temperature(str(model), task=tuning, seed=args.seed, **common(args))
    asked = ingot.tune_temperature(str(model), task=checking, seed=args.seed + 1000, **common(args))
    fresh = score(asked.rows, read_items(checking, len(records), 0), GRID)
    items = read_items(tuning, len(records), args.seed)
    scores, parts = score(told.rows, items, GRID), halves(items, args.seed)
    decisions = {
        "labels, single": told.decision,
        "labels, majority": by_labels(scores, parts, GRID, "majority", args.seed),
        "entropy": by_entropy(scores, parts, GRID, args.seed),
    }
    found: dict[str, Any] = {f"accuracy, {aim}": rounded(fresh.by(aim).mean(0)) for aim in AIMS}
    for way, decision in decisions.items():
        aims = [aim for aim in AIMS if aim in way] or AIMS
        found[way] = {aim: held(decision.temperature, fresh.by(aim)) for aim in aims} | {"said": decision.sentence}
        print(task, way, json.dumps(found[way]), flush=True)
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def rounded(values: Values) -> list[float]:
    return [round(float(value), 4) for value in values]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=48, help="that tune, and as many that check")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def main() -> None:
    from pretrain import hardware

    args = arguments()
    torch.set_num_threads(1)
    real = Path(os.environ["INGOT_DATA"]) / STORIES
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        ingot.import_model(real / "stories260K.bin", tokenizer=real / "tok512.bin", out=work / "stories260K")
        tasks = {task: measure(task, work / "stories260K", work, args) for task in args.tasks}
    date = datetime.date.today().isoformat()
    settings = {key: value for key, value in vars(args).items() if key != "results"}
    result = {"date": date, "hardware": hardware(), "grid": list(GRID), "settings": settings, "tasks": tasks}
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / f"temperature-{date}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
