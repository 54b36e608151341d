"""The figures of pages, from a run of the recipe that the page is about.

python benchmarks/figures.py quickstart runs/quickstart    # results/quickstart-DATE.json and both READMEs' tables
python benchmarks/figures.py objectives runs/objectives    # the same for both pages about objectives
python benchmarks/figures.py decode-0.5b benchmarks/results/decode-0.5b-DATE.json       # benchmarks/decode.py's
python benchmarks/figures.py tune-defaults benchmarks/results/tune-defaults-DATE.json   # benchmarks/tune_defaults.py's
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
Result = dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """How a run becomes a result (beside date and hardware), and a result the table of each page."""

    gather: Callable[[Path], Result]
    block: Callable[[Result, str], str]
    pages: tuple[str, str]


def newest(name: str) -> Result:
    """The latest committed result of a recipe."""
    found: Result = json.loads(sorted(RESULTS.glob(f"{name}-*.json"))[-1].read_text())
    return found


def language_of(page: str) -> str:
    return "zh" if "zh" in page else "en"


def step_of(run: Path, name: str) -> Result:
    """The step that made an output, out of its hallmark."""
    found: Result = json.loads((run / name / "hallmark.json").read_text())["step"]
    return found


def seconds(run: Path) -> float:
    return sum(json.loads(path.read_text())["seconds"] for path in (run / ".recipe").glob("*.json"))


def table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


# ---- the quickstart

MODELS = ("chat", "chat-int8", "chat-int4", "sibling", "blend")
HEAD = {
    "en": (
        "model",
        "bits per byte",
        "told facts, English",
        "told facts, Chinese",
        "never told: says so, en / zh",
        "MB",
    ),
    "zh": ("模型", "位元／位元組", "說過的事實，英文", "說過的事實，中文", "沒說過的：會承認不知道，英／中", "MB"),
}
NOTE = {
    "en": "{date}, {hardware}; {seconds:.0f} s in all, {parameters:,} parameters, seed {seed}.",
    "zh": "{date}，{hardware}；共 {seconds:.0f} 秒，{parameters:,} 個參數，種子 {seed}。",
}


def gather_quickstart(run: Path) -> Result:
    evaluation = json.loads((run / "report" / "report.json").read_text())["numbers"]
    base = step_of(run, "base")
    keys = ("bits_per_byte", "told.en", "told.zh", "told-asked.en", "told-asked.zh", "told-prose.en", "told-prose.zh",
            "never-told.abstained.en", "never-told.abstained.zh", "arithmetic.en", "arithmetic.zh")  # fmt: skip
    models = {
        model: {key: evaluation[f"{model}.{key}"]["value"] for key in keys}
        | {"bytes": sum(file.stat().st_size for file in (run / model).glob("*.safetensors"))}
        for model in MODELS
    }
    return {
        "seconds": seconds(run),
        "parameters": base["numbers"]["parameters"],
        "seed": base["seed"],
        "models": models,
    }


def quickstart_block(result: Result, language: str) -> str:
    rows = []
    for name, numbers in result["models"].items():
        abstained = " / ".join(f"{numbers[f'never-told.abstained.{tongue}']:.0%}" for tongue in ("en", "zh"))
        told = [f"{numbers[f'told.{tongue}']:.1%}" for tongue in ("en", "zh")]
        rows.append([f"`{name}`", f"{numbers['bits_per_byte']:.4f}", *told, abstained, f"{numbers['bytes'] / 1e6:.2f}"])
    return table(HEAD[language], rows) + "\n" + NOTE[language].format(**result) + "\n"


# ---- the recipe of objectives

LEARNERS = ("gpt", "bert", "t5")
TRAINED = ("parameters", "targets", "seconds", "heldout_loss")
SHOWN = ("cloze.before", "cloze.after", "cloze.en", "cloze.zh", "cloze")
OBJECTIVES_HEAD = {
    "en": (
        "model",
        "parameters",
        "predictions asked",
        "held-out loss, own scale",
        "text before decides",
        "text after decides",
        "English",
        "Chinese",
        "all gaps",
    ),
    "zh": (
        "模型",
        "參數",
        "要求預測的次數",
        "保留資料的損失（各自的尺度）",
        "前文決定",
        "後文決定",
        "英文",
        "中文",
        "全部空格",
    ),
}
OBJECTIVES_ROWS = {
    "en": {"left": "`{}`, from the left", "guessing": "guessing", "commonest": "always the commonest"},
    "zh": {"left": "`{}`，只看左邊", "guessing": "隨機猜", "commonest": "總選最常見的"},
}
OBJECTIVES_NOTE = {
    "en": "Gaps filled rightly of {gaps}, in brackets the 95 % interval. {date}, {hardware}; {seconds:.0f} s in all; "
    "each model read the same {tokens:,} tokens of text {epochs:g} times; seed {seed}.",
    "zh": "在 {gaps} 個空格中填對的比例，括號內為 95 % 信賴區間。{date}，{hardware}；共 {seconds:.0f} 秒；"
    "每個模型都把同樣的 {tokens:,} 個文字詞元讀了 {epochs:g} 遍；種子 {seed}。",
}


def gather_objectives(run: Path) -> Result:
    numbers = json.loads((run / "report" / "report.json").read_text())["numbers"]
    steps = {name: step_of(run, name) for name in LEARNERS}
    models = {
        name: {
            "objective": step["options"]["objective"],
            **{key: step["numbers"][key] for key in TRAINED},
            **{key: numbers[f"{name}.{key}"] for key in (*SHOWN, "cloze_new", "cloze_nats")},
        }
        for name, step in steps.items()
    }
    first = steps[LEARNERS[0]]
    return {
        "seconds": seconds(run),
        "epochs": first["options"]["epochs"],
        "tokens": first["numbers"]["corpus_tokens"],
        "seed": first["seed"],
        "gaps": numbers["cloze_items"],
        "guessing": numbers["cloze_guessing"],
        "commonest": numbers["cloze_commonest"],
        "left": {key: numbers[f"gpt.{key.replace('cloze', 'cloze-left')}"] for key in SHOWN},
        "models": models,
    }


def _share(cell: Result) -> str:
    return f"{cell['value']:.0%} [{cell['low']:.0%}, {cell['high']:.0%}]".replace("%", " %")


def objectives_block(result: Result, language: str) -> str:
    names = OBJECTIVES_ROWS[language]
    rows = []
    for name, found in result["models"].items():
        sizes = [f"{found['parameters']:,}", f"{found['targets']:,}", f"{found['heldout_loss']:.2f}"]
        rows.append([f"`{name}` ({found['objective']})", *sizes, *(_share(found[key]) for key in SHOWN)])
        if name == "gpt":
            rows.append([names["left"].format(name), "", "", "", *(_share(result["left"][key]) for key in SHOWN)])
    for name in ("guessing", "commonest"):
        rows.append([names[name], *[""] * (len(SHOWN) + 2), f"{100 * result[name]:.0f} %"])
    return table(OBJECTIVES_HEAD[language], rows) + "\n" + OBJECTIVES_NOTE[language].format(**result) + "\n"


# ---- tuning at its defaults

DEFAULTS_TASKS = {
    "en": {"world": "chats of a world", "stories260K": "a novel, stories260K"},
    "zh": {"world": "世界的對話", "stories260K": "小說（stories260K）"},
}
DEFAULTS_HEAD = {
    "en": (
        "method",
        "trained",
        "loss: start",
        "defaults",
        "best found",
        "share of the best",
        "facts right: defaults / best",
        "seconds",
        "peak MB",
        "found",
    ),
    "zh": (
        "方法",
        "訓練的數",
        "損失：開始",
        "預設值",
        "找到的最好",
        "達到最好的比例",
        "事實答對：預設／最好",
        "秒數",
        "記憶體峰值 MB",
        "找到的設定",
    ),
}
DEFAULTS_NOTE = {
    "en": "Held-out loss, nats a target. {date}, {hardware}; {trials} trials a method, {epochs:g} epochs.",
    "zh": "保留資料的損失，單位是每個目標的奈特數。{date}，{hardware}；每種方法嘗試 {trials} 次，{epochs:g} 輪。",
}


def gather_defaults(run: Path) -> Result:
    """What the benchmark wrote holds all."""
    found: Result = json.loads(run.read_text())
    return found


def defaults_block(result: Result, language: str) -> str:
    parts = []
    for task, found in result["tasks"].items():
        rows = [_defaults_row(method, one) for method, one in found["methods"].items()]
        parts.append(f"{DEFAULTS_TASKS[language][task]}\n\n{table(DEFAULTS_HEAD[language], rows)}")
    note = DEFAULTS_NOTE[language].format(**result["settings"] | result)
    return "\n".join([*parts, note]) + "\n"


def _defaults_row(method: str, one: Result) -> list[str]:
    losses = [f"{one[key]:.3f}" for key in ("start", "defaults", "best")]
    told = "" if "told" not in one else f"{one['told']['defaults']:.0%} / {one['told']['best']:.0%}"
    values = ", ".join(
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in one["best_values"].items()
    )
    sizes = [f"{one['seconds']['defaults']:.0f}", f"{one['peak_bytes']['defaults'] / 1e6:.0f}"]
    trained = f"{one['trained_parameters']['defaults']:,}"
    quality = "–" if one["quality"] is None else f"{one['quality']:.1%}"
    return [f"`{method}`", trained, *losses, quality, told, *sizes, values]


# ---- writing on a CPU

SPEED_HEAD = {
    "en": ("tokens a second", "1 text", "8 texts", "16 texts", "reading 512", "KL to the stored weights"),
    "zh": ("每秒詞元數", "1 篇", "8 篇", "16 篇", "讀 512 個", "與原權重的 KL"),
}
SPEED_NOTE = {
    "en": "Qwen2-0.5B's shape with random weights, {threads} threads; ingot's int8 reads {int8:.0%} of what memory "
    "gives ({read:.1f} GB/s), its int4 {int4:.0%}. {date}, {hardware}.",
    "zh": "Qwen2-0.5B 的形狀、隨機權重，{threads} 個執行緒；ingot 的 int8 達到記憶體讀取速度（{read:.1f} GB/s）的 "
    "{int8:.0%}，int4 是 {int4:.0%}。{date}，{hardware}。",
}


def speed_block(result: Result, language: str) -> str:
    rows = []
    for name, found in result["sides"].items():
        speeds = [f"{value:.1f}" for value in found["tokens_per_second"].values()]
        rows.append([f"`{name}`", *speeds, f"{found['read_512_tokens_per_second']:.0f}", f"{found['gate']['kl']:.4f}"])
    read = sum(limit["read_gb_s"] for limit in result["limits"]) / len(result["limits"])
    shares = {
        bits: side["packed_bytes"] * side["tokens_per_second"]["1"] / 1e9 / read
        for bits, side in ((bits, result["sides"][f"ingot-{bits}"]) for bits in ("int8", "int4"))
    }
    note = SPEED_NOTE[language].format(read=read, **shares, **result)
    return table(SPEED_HEAD[language], rows) + "\n" + note + "\n"


FIGURES = {
    "decode-0.5b": Figures(gather_defaults, speed_block, ("docs/generate.md", "docs/generate.zh-TW.md")),
    "quickstart": Figures(gather_quickstart, quickstart_block, ("README.md", "README.zh-TW.md")),
    "objectives": Figures(gather_objectives, objectives_block, ("docs/objectives.md", "docs/objectives.zh-TW.md")),
    "tune-defaults": Figures(gather_defaults, defaults_block, ("docs/tune.md", "docs/tune.zh-TW.md")),
}


def write(name: str, result: Result) -> None:
    """Put the tables into their pages, each between its two marks."""
    begin, end = f"<!-- figures: {name} -->\n", "<!-- end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    for page in FIGURES[name].pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        filled = begin + FIGURES[name].block(result, language_of(page)) + end
        (ROOT / page).write_text(pattern.sub(lambda _, filled=filled: filled, text), encoding="utf-8")


def main() -> None:
    from pretrain import hardware

    name, run = sys.argv[1], Path(sys.argv[2])
    result = {"date": datetime.date.today().isoformat(), "hardware": hardware(), **FIGURES[name].gather(run)}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}-{result['date']}.json").write_text(json.dumps(result, indent=2) + "\n")
    write(name, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
