"""How much of what tuning can reach do its defaults reach? Every method at its defaults, and after a search.

    python benchmarks/tune_defaults.py                             # writes benchmarks/results/tune-defaults-DATE.json
    python benchmarks/tune_defaults.py --trials 4 --epochs 1       # a look
    python benchmarks/tune_defaults.py --methods lora prompt --tasks world

Two tasks, each the same for all methods: the chats of a synthetic world on a model pre-trained on it for a few minutes,
and, where the folder of real data is there (INGOT_DATA), a novel on stories260K, a small model with real weights.
Trials are runs of full length, judged on conversations they do not learn from; the first has the defaults. Of a method,

    quality  = (start loss - loss at defaults) / (start loss - best loss)   on what is held out for the search
    accuracy = share of told facts answered right, at defaults over after the search (world; both trained on all chats)

Every run is a process of its own, so its peak memory is its own. What is finished is kept below --work and not done
again, so the benchmark may be stopped; a new one needs another folder.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).parents[1]
STORIES = "01_models/stories260K"
NOVEL, GREW_UP_ON = "02_text/wizard_of_oz.txt", "02_text/tinystories_sample.txt"
NOVEL_CHARACTERS = 60_000
Result = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A model and what it is tuned on; `world`: where its questions are, if it can be asked any."""

    base: Path
    words: tuple[str, ...]
    world: Path | None = None


def ingot(*words: object) -> Result:
    """Run a verb in a process of its own: the JSON it ends with, and its peak memory."""
    command = [sys.executable, "-m", "ingot", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [line.rstrip("\n") for line in process.stdout]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("\n".join([*lines[-5:], f"failed: {' '.join(command)}"]))
    return {**json.loads(lines[-1]), "peak_bytes": usage.ru_maxrss * 1024}


def once(out: Path, *words: object) -> Result:
    """The same for a verb that writes `out`, done once: what it said is kept beside it."""
    said = out.parent / f"{out.name}.said.json"
    if not said.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        print(f"{out.name}: {' '.join(map(str, words))}", file=sys.stderr, flush=True)
        found = ingot(*words, "--out", out)
        said.write_text(json.dumps(found))
    return json.loads(said.read_text())


def world_task(work: Path, args: argparse.Namespace) -> Task:
    """A world, its tokenizer, and a model that has read it."""
    world, tokenizer, base = work / "world", work / "tokenizer", work / "base"
    once(world, "world", "--people", args.people, "--places", 6)
    once(tokenizer, "tokenizer", "train", world, "--algorithm", "bpe", "--vocab-size", 1024)
    once(base, "pretrain", "--data", world, "--tokenizer", tokenizer, "--depth", args.depth, "--length", 256,
         "--epochs", args.pretrain_epochs, "--loop.precision", "fp32")  # fmt: skip
    return Task(base, ("--data", world / "chat.jsonl"), world)


def stories_task(work: Path, args: argparse.Namespace) -> Task | None:
    """Real weights and the beginning of a novel; None where there is no folder of real data."""
    place = os.environ.get("INGOT_DATA")
    if place is None or not (Path(place) / STORIES).exists():
        return None
    real, base, novel = Path(place), work / "stories260K", work / "novel.jsonl"
    once(base, "import", real / STORIES / "stories260K.bin", "--tokenizer", real / STORIES / "tok512.bin")
    text = (real / NOVEL).read_text(encoding="utf-8")[:NOVEL_CHARACTERS]
    novel.write_text("".join(json.dumps({"text": passage}) + "\n" for passage in passages(text)))
    words = ("--data", novel, "--as-text", "--corpus.allow-unknown-licence", "--corpus.heldout", 0,
             "--general", real / GREW_UP_ON, "--length", 256)  # fmt: skip
    return Task(base, words)


def passages(text: str, size: int = 500) -> list[str]:
    """Whole lines, about `size` characters of them at a time."""
    found = [""]
    for line in text.splitlines():
        found[-1] += line + "\n"
        if len(found[-1]) >= size:
            found.append("")
    return [passage.strip() for passage in found if passage.strip()]


TASKS = {"world": world_task, "stories260K": stories_task}


def tuned(task: Task, method: str, work: Path, args: argparse.Namespace) -> tuple[Result, Result]:
    """A method at its defaults, and after a search."""
    common = ("tune", task.base, *task.words, "--method", method, "--epochs", args.epochs, "--loop.precision", "fp32")
    defaults = once(work / f"{method}-defaults", *common)
    search = ("--search.trials", args.trials, "--search.share", args.share, "--resume")
    return defaults, once(work / f"{method}-best", *common, *search)


def asked(task: Task, methods: list[str], work: Path) -> dict[str, float]:
    """Told facts answered right, by the model's name."""
    assert task.world is not None
    names = [f"{method}-{which}" for method in methods for which in ("defaults", "best")]
    references = [str(task.base), *(_reference(task, work / name) for name in names)]
    report = work / "report"
    once(report, "evaluate", *references, "--tasks", "world", "--world", task.world)
    numbers = json.loads((report / "report.json").read_text())["numbers"]
    return {name: _told(numbers, reference) for name, reference in zip(["base", *names], references, strict=True)}


def _reference(task: Task, path: Path) -> str:
    return str(path) if (path / "config.json").exists() else f"{task.base}+{path}"


def _told(numbers: Result, reference: str) -> float:
    name = "+".join(Path(part).name for part in reference.split("+"))
    return float(numbers[f"{name}.told"]["value"])


def line(defaults: Result, best: Result) -> Result:
    """A method in figures."""
    start, first, last = (best[f"search_loss_{when}"] for when in ("start", "defaults", "best"))
    change = [key for key in best if key.startswith("general_") and key.endswith("_change")]
    return {
        "start": start, "defaults": first, "best": last,
        "quality": round((start - first) / (start - last), 4) if last < start else None,
        "best_values": best["search_best"], "trials": best["search_trials"],
        "trained_parameters": {"defaults": defaults["trained_parameters"], "best": best["trained_parameters"]},
        "seconds": {"defaults": defaults["seconds"], "best": best["seconds"], "search": best["search_seconds"]},
        "peak_bytes": {"defaults": defaults["peak_bytes"], "best": best["peak_bytes"]},
        "forgot": {"defaults": defaults[change[0]], "best": best[change[0]]} if change else None,
    }  # fmt: skip


def measure(name: str, args: argparse.Namespace) -> Result | None:
    work = args.work / name
    task = TASKS[name](work, args)
    if task is None:
        return None
    methods = {method: line(*tuned(task, method, work, args)) for method in args.methods}
    found: Result = {"methods": methods}
    if task.world is not None:
        right = asked(task, args.methods, work)
        found["told_base"] = right["base"]
        for method, one in methods.items():
            first, last = right[f"{method}-defaults"], right[f"{method}-best"]
            one["told"] = {"defaults": first, "best": last, "ratio": round(first / last, 4) if last else None}
    return found


def arguments() -> argparse.Namespace:
    from ingot.train.method import Method

    methods = list(get_args(Method))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "tune-defaults")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--pretrain-epochs", type=float, default=8)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def main() -> None:
    from figures import write
    from pretrain import hardware

    args = arguments()
    date = datetime.date.today().isoformat()
    settings = {name: value for name, value in vars(args).items() if name not in {"work", "results"}}
    tasks = {name: found for name in args.tasks if (found := measure(name, args)) is not None}
    result = {"date": date, "hardware": hardware(), "settings": settings, "tasks": tasks}
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / f"tune-defaults-{date}.json").write_text(json.dumps(result, indent=2) + "\n")
    if args.results == ROOT / "benchmarks" / "results":
        write("tune-defaults", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
