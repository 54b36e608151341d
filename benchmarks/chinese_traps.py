"""Chinese traps: what the field's tools say of Chinese text, and what ingot says of the same, side by side.

    python benchmarks/chinese_traps.py --lm-eval PYTHON     # results/chinese-traps-DATE.json and both pages' tables

PYTHON has lm-eval, which cannot share an environment with ingot; without it its rows keep the peer's cell empty. Every
row is a call that anyone can repeat; what a tool refuses is shown as refused.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NAME = "chinese-traps"
PAGES = ("docs/chinese_traps.md", "docs/chinese_traps.zh-TW.md")
Result = dict[str, Any]

SENTENCE, CHANGED = "今天天氣很好", "今天天氣很壞"
EXT_B, EXT_B_CHANGED = "𠮷𠮷𠮷𠮷𠮷𠮷", "𠮷𠮷𠮷𠮷𠮷𡃁"
MIXED = "GPU記憶體16GB"
ITEM = "下列何者為臺灣最高的山峰，其海拔約為三千九百五十二公尺，位於南投、嘉義與高雄的交界"
PADDING = "這份文件談的是登山的準備工作，包括裝備、體能與天氣。"
LONG = "天空是藍色的，草地是綠色的。" * 100

LM_EVAL = r"""
import importlib.metadata, json, sys
from lm_eval.api.metrics import weighted_perplexity
from lm_eval.decontamination.janitor import Janitor
from lm_eval.tasks.wikitext.preprocess_wikitext import process_results
given = json.load(sys.stdin)
found = {"version": importlib.metadata.version("lm_eval")}
nats, words = process_results({"page": given["long"]}, (given["nats"],))["word_perplexity"]
found["words"] = words
try:
    found["word_perplexity"] = weighted_perplexity([(nats / words, words)])
except OverflowError as error:
    found["word_perplexity"] = type(error).__name__
for name, item, train in (("zh", given["item"], given["train"]), ("en", given["item_en"], given["train_en"])):
    janitor = Janitor(ngram_n=13, minimum_slice_length=0)
    janitor.register_contaminant(item)
    found["found_" + name] = "".join(janitor.clean(train)) != train
print(json.dumps(found))
"""
ITEM_EN = "which of these is the highest mountain of the island with a height of about three thousand metres"


def score(directory: Path, texts: list[str], references: list[list[str]], **options: Any) -> dict[str, Any] | str:
    """The verb's numbers, or the code of its refusal."""
    import ingot

    files = []
    for number, one in enumerate([texts, *references]):
        files.append(directory / f"{number}.txt")
        files[-1].write_text("".join(f"{line}\n" for line in one), encoding="utf-8")
    try:
        found: dict[str, Any] = ingot.score(hyp=files[0], ref=files[1:], **options).summary()
    except ingot.IngotError as error:
        return f"{error.code}: {error}".replace(f"{directory}/", "")
    return found


def rouge_rows(directory: Path) -> list[Result]:
    from rouge_score.rouge_scorer import RougeScorer

    peer = RougeScorer(["rouge1", "rougeL"]).score(SENTENCE, SENTENCE)
    own = score(directory, [SENTENCE], [[SENTENCE]], metric="rouge")
    assert isinstance(own, dict)
    return [row("rouge", f"rouge-score {version('rouge_score')}", peer["rougeL"].fmeasure, own["rougeL"], 1)]


def sacrebleu_rows(directory: Path) -> list[Result]:
    import sacrebleu

    tool = f"sacrebleu {version('sacrebleu')}"
    bleu = score(directory, [SENTENCE], [[SENTENCE]], metric="bleu")
    mixed = score(directory, [MIXED], [[MIXED]], metric="bleu")
    ter = score(directory, [CHANGED], [[SENTENCE]], metric="ter")
    ext_b = score(directory, [EXT_B_CHANGED], [[EXT_B]], metric="bleu", bleu={"tokenize": "ingot-cjk"})
    lengths = score(directory, ["好好好好"], [["好好好好", "壞"]], metric="bleu")
    assert isinstance(bleu, dict)
    assert isinstance(mixed, dict)
    assert isinstance(ter, dict)
    assert isinstance(ext_b, dict)
    assert isinstance(lengths, str)
    return [
        row("bleu", tool, sacrebleu.corpus_bleu([SENTENCE], [[SENTENCE]]).score, bleu["bleu"], 100),
        row("bleu-mixed", tool, sacrebleu.corpus_bleu([MIXED], [[MIXED]]).score, mixed["bleu"], 100),
        row("ter", tool, sacrebleu.corpus_ter([CHANGED], [[SENTENCE]]).score, ter["ter"], 100 / 6),
        row("ext-b", tool, sacrebleu.corpus_bleu([EXT_B_CHANGED], [[EXT_B]], tokenize="zh").score, ext_b["bleu"],
            sacrebleu.corpus_bleu([" ".join(EXT_B_CHANGED)], [[" ".join(EXT_B)]], tokenize="none").score),
        row("lengths", tool, sacrebleu.corpus_bleu(["好好好好"], [["好好好好", "壞"]], tokenize="char").score,
            lengths.split(":")[0], "refused"),
    ]  # fmt: skip


def lm_eval_rows(directory: Path, python: str | None) -> list[Result]:
    train = PADDING * 3 + ITEM + PADDING * 3
    train_en = f"this is a page about walking in the hills {ITEM_EN} and some more words about shoes and rain"
    given = {"long": LONG, "nats": -2.0 * len(LONG), "item": ITEM, "train": train, "item_en": ITEM_EN,
             "train_en": train_en}  # fmt: skip
    peer: dict[str, Any] = {}
    if python:
        command = [python, "-c", LM_EVAL]
        done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=True)
        peer = json.loads(done.stdout.splitlines()[-1])
    own = perplexities()
    tool = f"lm-eval {peer.get('version', '')}".strip()
    return [
        row("words", tool, peer.get("words"), "withheld" if own["word_perplexity"] is None else "found", "withheld"),
        row("word-perplexity", tool, peer.get("word_perplexity"), own["character_perplexity"], "e**2"),
        row("decontamination-en", tool, found(peer.get("found_en")), found(cleaned(directory, "en", train_en, ITEM_EN)),
            "found"),
        row("decontamination-zh", tool, found(peer.get("found_zh")), found(cleaned(directory, "zh", train, ITEM)),
            "found"),
    ]  # fmt: skip


def perplexities() -> dict[str, Any]:
    """What task `perplexity` makes of the same text and nats."""
    from ingot.evaluate import perplexity
    from ingot.evaluate.entrants import Entrant
    from ingot.evaluate.task import Comparison

    size = len(LONG)
    saved = {"document": "zh", "block": 0, "bytes": len(LONG.encode()), "characters": size, "tokens": size, "lost": 0,
             "words": len(LONG.split()), "letters": size, "unspaced": size, "nats": 2.0 * size}  # fmt: skip
    return perplexity.score(Comparison([Entrant("m", "m", "d", 1, "t", 64)], [[saved]], 0, 0)).numbers[0]


def found(is_found: bool | None) -> str | None:
    return None if is_found is None else "found" if is_found else "missed"


def cleaned(directory: Path, name: str, train: str, item: str) -> bool:
    """Does `data clean --against` drop the document?"""
    import ingot
    from ingot.data.clean.rules import RULES

    data, against = directory / f"{name}-train.jsonl", directory / f"{name}-bench.jsonl"
    clean = {"zh": "這是一份乾淨的文件，說的是別的事情。", "en": "a clean page that speaks of other things entirely "}
    texts = train, clean[name] * 3
    data.write_text("".join(json.dumps({"text": one}, ensure_ascii=False) + "\n" for one in texts))
    against.write_text(json.dumps({"question": item, "answer": "A"}, ensure_ascii=False) + "\n")
    ingot.data_clean(data=data, out=directory / f"{name}-out", against=[against], policy="off", languages="any",
                     skip=list(RULES))  # fmt: skip
    kept = "".join(file.read_text() for file in (directory / f"{name}-out").rglob("*.jsonl"))
    return item not in kept


def row(trap: str, tool: str, peer: object, own: object, right: object) -> Result:
    return {"trap": trap, "tool": tool, "peer": peer, "ingot": own, "right": right}


WORDS = {
    "en": {
        "rouge": "ROUGE-L of two identical Chinese sentences",
        "bleu": "BLEU of two identical Chinese sentences, default settings",
        "bleu-mixed": "BLEU of `GPU記憶體16GB` against itself, default settings",
        "ter": "TER after one of six characters was changed, default settings",
        "ext-b": "BLEU of six characters beyond the basic plane, one changed (`zh` against `ingot-cjk`)",
        "lengths": "1 hypothesis against 2 reference lines, by mistake",
        "words": "words in 1,400 Chinese characters (wikitext's rule)",
        "word-perplexity": "word perplexity of these at 2 nats a character; ingot: a character",
        "decontamination-en": "an English benchmark item planted word for word in a training document",
        "decontamination-zh": "a Chinese benchmark item planted word for word in a training document",
        "head": "| what is measured | tool | it says | ingot says | right |",
        "score-lengths": "refused, with both counts", "refused": "refused", "withheld": "withheld, with the reason",
        "e**2": "7.389", "found": "found", "missed": "missed", "OverflowError": "crashes: OverflowError",
    },
    "zh": {
        "rouge": "兩句完全相同的中文，ROUGE-L",
        "bleu": "兩句完全相同的中文，BLEU，預設設定",
        "bleu-mixed": "`GPU記憶體16GB` 跟自己比，BLEU，預設設定",
        "ter": "六個字改了一個，TER，預設設定",
        "ext-b": "六個基本平面以外的字改了一個，BLEU（`zh` 對 `ingot-cjk`）",
        "lengths": "不小心拿 1 行假設去比 2 行參考",
        "words": "1,400 個中文字算成幾個詞（wikitext 的規則）",
        "word-perplexity": "這些字每字 2 奈特時的每詞困惑度；ingot 給的是每字元",
        "decontamination-en": "訓練文件裡逐字夾帶一題英文評測題",
        "decontamination-zh": "訓練文件裡逐字夾帶一題中文評測題",
        "head": "| 量什麼 | 工具 | 它說 | ingot 說 | 正確 |",
        "score-lengths": "拒絕，並說出兩邊的數目", "refused": "拒絕", "withheld": "不給，並說明原因",
        "e**2": "7.389", "found": "找到", "missed": "漏掉", "OverflowError": "當掉：OverflowError",
    },
}  # fmt: skip
NOTE = {
    "en": "{date}; every call is in `benchmarks/chinese_traps.py`.",
    "zh": "{date}；每個呼叫都在 `benchmarks/chinese_traps.py`。",
}


def block(result: Result, language: str) -> str:
    """The table of a page."""
    words = WORDS[language]
    lines = [words["head"], "|---|---|---:|---:|---:|"]
    for one in result["rows"]:
        cells = [shown(one[name], words) for name in ("peer", "ingot", "right")]
        lines.append(f"| {words[one['trap']]} | {one['tool']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", NOTE[language].format(**result)]) + "\n"


def shown(value: object, words: dict[str, str]) -> str:
    if isinstance(value, str):
        return words[value]
    if value is None:
        return "–"
    assert isinstance(value, int | float)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def newest() -> Result:
    result: Result = json.loads(sorted(RESULTS.glob(f"{NAME}-*.json"))[-1].read_text())
    return result


def write_pages(result: Result) -> None:
    for page in PAGES:
        path = ROOT / page
        table = block(result, "zh" if "zh" in page else "en")
        before, _, rest = path.read_text().partition(f"<!-- figures: {NAME} -->\n")
        path.write_text(f"{before}<!-- figures: {NAME} -->\n{table}<!-- end -->{rest.partition('<!-- end -->')[2]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--lm-eval", help="a python that has lm-eval")
    parser.add_argument("--out", type=Path, help="a file for the result instead of the committed one and the pages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rows = [*rouge_rows(directory), *sacrebleu_rows(directory), *lm_eval_rows(directory, options.lm_eval)]
    result = {"date": datetime.date.today().isoformat(), "rows": rows}
    path = options.out or RESULTS / f"{NAME}-{result['date']}.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    if options.out is None:
        write_pages(result)
    json.dump(result, sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
