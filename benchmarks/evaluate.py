"""Benchmarks against lm-eval: the same numbers item by item first, then time, on one processor thread.

    python -m venv peers && peers/bin/pip install lm_eval[hf]==0.4.13
    python benchmarks/evaluate.py --lm-eval peers/bin/python --data INGOT_DATA/04_benchmarks --compare
    python benchmarks/evaluate.py --lm-eval peers/bin/python --data INGOT_DATA/04_benchmarks --written
    python benchmarks/evaluate.py --lm-eval peers/bin/python --data INGOT_DATA/04_benchmarks --chat
    python benchmarks/evaluate.py --lm-eval peers/bin/python --data INGOT_DATA/04_benchmarks --time

Both sides read the same files through lm-eval's own task definitions and ingot's. `--compare`: 13 tasks on stories260K
and on a random Llama shape with GPT-2's tokenizer; log-likelihoods, acc, acc_norm, acc_bytes and standard errors.
With `--softmax float64` lm-eval takes log-softmax and sums of the same logits in float64 (its `softmax_dtype`).
`--written`: GSM8K and BBH, greedy texts, answers found and scores, and planted completions (evaluate_written.py).
`--chat`: the same of some tasks through a chat template, examples as turns and in one message.
`--time`: MMLU with 5 examples and HellaSwag with 10 on a smaller shape, sides in turns, lm-eval at the fastest of
several batch sizes (tried on a few items); the file holds CPU seconds of every turn and how many predictions differ.
Loading is not counted on either side; reading files, making prompts and tokenizing is.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).parent
SHAPE = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "vocab_size": 50304}
SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 50304}
BATCHES = (1, 4, 16)
CHAT_TASKS = ("mmlu", "hellaswag", "arc_easy", "winogrande", "truthfulqa_mc1", "cmmlu")
TIMED_SHAPE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "vocab_size": 50304}
"""16M parameters, so that three turns of both sides take minutes."""
TIMED = (("mmlu", 5, 50), ("hellaswag", 10, 40))
"""Examples, and items (of each of MMLU's four subjects)."""
WRITTEN_TOKENS = 64
"""Of a written answer: enough for stop strings to come, and to differ."""


def make_model(path: Path, data: Path, window: int, shape: dict[str, int] = SHAPE, template: str = "") -> None:
    """A Llama shape with random weights and GPT-2's tokenizer, of 49M parameters unless told otherwise."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from ingot.model.config import ModelConfig
    from ingot.model.network import make_network
    from ingot.model.weights import spec_of, write_tensors

    files = data.parent / "08_tokenizers" / "cs336"
    bpe = models.BPE.from_file(str(files / "gpt2_vocab.json"), str(files / "gpt2_merges.txt"))
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", *(["<|im_start|>", "<|im_end|>"] if template else [])])
    path.mkdir(parents=True)
    if template:
        (path / "chat_template.jinja").write_text(template)
    tokenizer.save(str(path / "tokenizer.json"))
    tokens = {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **tokens}))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": window, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "rope_theta": 10000.0, "tie_word_embeddings": True, "dtype": "float32", **shape,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config))
    network = make_network(ModelConfig.read(config, path / "config.json"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.04)
    state = dict(network.state_dict())
    write_tensors(path / "model.safetensors", spec_of(state), state.items())


def run_ingot(plan: dict[str, Any]) -> dict[str, Any]:
    """Our side: {task: rows and numbers}, and how long it took without loading."""
    from ingot.adapt.load import load
    from ingot.evaluate.benchmarks import results
    from ingot.evaluate.benchmarks.spec import open_spec
    from ingot.evaluate.benchmarks.task import measure, prepare
    from ingot.evaluate.journal import Journal
    from ingot.evaluate.options import EvaluateOptions

    model = load(plan["model"])
    _ = model.tokenizer
    found: dict[str, Any] = {"tasks": {}}
    wall, cpu = time.perf_counter(), time.process_time()
    for task, metrics in plan["metrics"].items():
        spec = open_spec(task)
        spec = spec.model_copy(update={"metrics": tuple(metrics)}) if metrics else spec
        given = {"models": [plan["model"]], "out": "out", "tasks": [task], "data": plan["sets"]}
        written = {} if metrics else {"max_tokens": WRITTEN_TOKENS}
        chat = plan.get("chat", "off")
        asked = {"shots": plan["shots"], "first": plan["limit"], "bad_share": 1.0} | (
            {} if chat == "off" else {"chat": "on", "examples": chat}
        )
        options = EvaluateOptions.of(**given, **written, benchmark=asked)
        with tempfile.TemporaryDirectory() as place, Journal(Path(place), {}) as journal:
            rows = measure(spec, model, prepare(spec, options), options, journal)
        groups = [row["group"] for row in rows]
        numbers = {}
        for name in results.metric_names(spec):
            values = results.values(spec, name, rows)
            numbers[name] = [float(values.mean()), results.stderr(values, groups)]
        found["tasks"][task] = {"rows": rows, "numbers": numbers}
    return {**found, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def turn(side: str, plan: dict[str, Any], python: str, folder: Path) -> dict[str, Any]:
    """One side in a process of its own."""
    asked, answered = folder / f"{side}-plan.json", folder / f"{side}-answer.json"
    asked.write_text(json.dumps(plan))
    script = ["-P", str(HERE / "evaluate_peer.py")] if side == "lm-eval" else [__file__, "--child"]
    done = subprocess.run([python, *script, str(asked), str(answered)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(answered.read_text())
    return found


def compared(own: dict[str, Any], peer: dict[str, Any]) -> dict[str, Any]:
    """How far apart two runs are, task by task; the subjects of MMLU together."""
    table = {}
    for task, ours in own["tasks"].items():
        names = [name for name in peer["samples"] if name == f"parity_{task}" or name.startswith(f"parity_{task}_")]
        names = [f"parity_{task}"] if f"parity_{task}" in names else sorted(names)
        theirs = [sample for name in names for sample in peer["samples"][name]]
        rows = ours["rows"]
        assert len(rows) == len(theirs), f"{task}: {len(rows)} rows, {len(theirs)} of lm-eval"
        apart, differ = [], 0
        for row, sample in zip(rows, theirs, strict=True):
            mine = [*row["logprobs"], *row.get("logprobs_alone", [])]
            peers = [float(each[0]) for each in sample["resps"]]
            assert len(mine) == len(peers), f"{task}: {row['id']}"
            apart += [(abs(a - b), abs(a - b) / max(1.0, abs(b))) for a, b in zip(mine, peers, strict=True)]
            count = len(row["logprobs"])
            differ += max(range(count), key=mine.__getitem__) != max(range(count), key=peers.__getitem__)
        table[task] = {
            "items": len(rows), "largest_difference": max(apart)[0],
            "largest_relative": max(relative for _, relative in apart), "predictions_that_differ": differ,
            "cut": sum(bool(row["cut"]) for row in rows), "merged": sum(row["merged"] for row in rows),
            "tied": sum(row["logprobs"].count(max(row["logprobs"])) > 1 for row in rows),
            "numbers": ours["numbers"], "lm_eval": _peer_numbers(peer["results"], names, ours["numbers"]),
        }  # fmt: skip
    return table


def _peer_numbers(found: dict[str, Any], names: list[str], metrics: dict[str, Any]) -> dict[str, Any]:
    """lm-eval's numbers: of several subjects the mean by size, and the errors pooled as lm-eval's groups do."""
    numbers = {}
    for metric in metrics:
        name = "acc" if metric == "mc2" else metric
        sizes = [found[each]["sample_len"] for each in names]
        values = [found[each][f"{name},none"] for each in names]
        errors = [found[each][f"{name}_stderr,none"] for each in names]
        pooled = sum((n - 1) * error**2 * n for n, error in zip(sizes, errors, strict=True)) / (sum(sizes) - len(sizes))
        mean = sum(value * n for value, n in zip(values, sizes, strict=True)) / sum(sizes)
        numbers[metric] = [mean, (pooled / sum(sizes)) ** 0.5]
    return numbers


def plan_of(model: Path, sets: Path, tasks: list[str], shots: int | None, limit: int) -> dict[str, Any]:
    def metrics(task: str) -> list[str]:
        more = ["acc_mutual_info"] if task == "arc_easy" else []
        one = {"truthfulqa_mc2": ["mc2"], "winogrande": ["acc"]}
        return one.get(task, ["acc", "acc_norm", "acc_bytes", *more])

    return {"model": str(model), "sets": str(sets), "metrics": {task: metrics(task) for task in tasks},
            "shots": shots, "limit": limit, "batch_size": 1}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lm-eval", help="python of an environment with lm-eval")
    parser.add_argument("--data", type=Path, help="the benchmarks' folder of INGOT_DATA")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--written", action="store_true")
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--limit", type=int, default=60, help="items of a task, or of each subject; not of --time")
    parser.add_argument("--shots", type=int, nargs="*", default=[0, 2])
    parser.add_argument("--tasks", help="with commas")
    parser.add_argument("--softmax", choices=["float32", "float64"], help="in which lm-eval adds up (float32)")
    parser.add_argument("--models", default="stories,random")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--record", type=Path, help="keep lm-eval's numbers on stories260K in this file")
    parser.add_argument("--record-written", type=Path, help="keep lm-eval's written answers there")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        args.child[1].write_text(json.dumps(run_ingot(json.loads(args.child[0].read_text()))))
        return
    from pretrain import hardware

    with tempfile.TemporaryDirectory() as place:
        result: dict[str, Any] = {"date": datetime.date.today().isoformat(), "hardware": hardware(), "threads": 1}
        if args.compare:
            result["compare"] = compare(args, Path(place))
        if args.written:
            result["written"] = written(args, Path(place))
        if args.chat:
            result["chat"] = chat(args, Path(place))
        if args.time:
            result["time"] = timed(args, Path(place))
    name = f"evaluate-{result['date']}.json"
    (args.out or HERE / "results" / name).write_text(json.dumps(result, indent=1) + "\n")


def peer_package(python: str) -> Path:
    code = "import importlib.util as u; print(u.find_spec('lm_eval').submodule_search_locations[0])"
    return Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())


def compare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every task, on both models, with and without examples."""
    from evaluate_sets import SETS, write_peer_tasks, write_sets

    tasks = args.tasks.split(",") if args.tasks else list(SETS)
    write_sets(folder / "sets", args.data, tasks)
    names = write_peer_tasks(folder / "peer", folder / "sets", tasks, peer_package(args.lm_eval))
    found: dict[str, Any] = {}
    for model in models_of(args, folder / "models"):
        for shots in args.shots:
            own = [task for task in tasks if not (task.startswith("truthfulqa") and shots)]
            peers = [name for name in names if own == tasks or not name.startswith("parity_truthfulqa")]
            plan = plan_of(model, folder / "sets", own, shots, args.limit)
            more = {"tasks_folder": str(folder / "peer"), "tasks": peers, "softmax_dtype": args.softmax}
            ours = turn("ingot", plan, sys.executable, folder)
            theirs = turn("lm-eval", {**plan, **more}, args.lm_eval, folder)
            found[f"{model.name}, {shots} shots"] = compared(ours, theirs)
            if args.record and model.name == "stories":
                record(args.record, shots, args.limit, plan["metrics"], theirs)
            for task, row in found[f"{model.name}, {shots} shots"].items():
                print(model.name, shots, task, json.dumps(row), flush=True)
    return found


def models_of(args: argparse.Namespace, folder: Path) -> list[Path]:
    """The models that were asked for."""
    import ingot

    stories = args.data.parent / "01_models" / "stories260K"
    if "stories" in args.models:
        ingot.import_model(stories / "stories260K.bin", tokenizer=stories / "tok512.bin", out=folder / "stories")
    if "random" in args.models:
        make_model(folder / "random", args.data, 2048)
    return sorted(folder.iterdir())


def written(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Planted completions, then both models' own texts."""
    import evaluate_written as sets

    sets.write_sets(folder / "written", args.data, args.limit)
    names = sets.write_peer_tasks(folder / "written-peer", folder / "written", peer_package(args.lm_eval))
    peer = {"tasks_folder": str(folder / "written-peer")}
    theirs = turn("lm-eval", {**peer, "planted": sets.planted_plan()}, args.lm_eval, folder)["planted"]
    found: dict[str, Any] = {"planted": sets.compared_planted(theirs)}
    texts: dict[str, Any] = {}
    for model in models_of(args, folder / "written-models"):
        found[model.name], texts[model.name] = both_write(args, model, folder, names, peer)
    if args.record_written:
        sets.dump(args.record_written, {"planted": sets.recorded_planted(theirs), "texts": texts["stories"]})
    return found


def both_write(
    args: argparse.Namespace, model: Path, folder: Path, names: dict[str, list[str]], peer: dict[str, Any],
    chat: str = "off",
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Both sides' written answers of one model compared; and lm-eval's, for the tests."""
    import evaluate_written as sets

    found, texts = {}, {}
    for task, own in names.items():
        plan = {"model": str(model), "sets": str(folder / "written"), "metrics": {task: []}, "limit": args.limit,
                "shots": 2 if task == "gsm8k" else None, "batch_size": 1, "chat": chat}  # fmt: skip
        ours = turn("ingot", plan, sys.executable, folder)["tasks"][task]["rows"]
        more = {"tasks": own, "gen_kwargs": {"max_gen_toks": WRITTEN_TOKENS}}
        samples = turn("lm-eval", {**plan, **peer, **more}, args.lm_eval, folder)["samples"]
        theirs = [sample for name in own for sample in samples[name]]
        found[task] = sets.compared_texts(task, ours, theirs)
        texts[task] = [
            [row["id"], sample["resps"][0], sample["found"]] for row, sample in zip(ours, theirs, strict=True)
        ]
        print(model.name, task, chat, json.dumps(found[task], ensure_ascii=False), flush=True)
    return found, texts


def chat(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Through ChatML on a small model: choices and written answers, examples as turns and in one message."""
    import evaluate_written as sets
    from evaluate_sets import write_peer_tasks, write_sets

    from ingot.text.chat import DEFAULT_CHAT_TEMPLATE

    package, template = peer_package(args.lm_eval), DEFAULT_CHAT_TEMPLATE
    for tag in ("{%- generation %}", "{% endgeneration %}"):
        template = template.replace(tag, "")
    make_model(folder / "chat", args.data, 2048, SMALL, template)
    tasks = args.tasks.split(",") if args.tasks else list(CHAT_TASKS)
    write_sets(folder / "sets", args.data, tasks)
    names = write_peer_tasks(folder / "peer", folder / "sets", tasks, package)
    sets.write_sets(folder / "written", args.data, args.limit)
    written_names = sets.write_peer_tasks(folder / "written-peer", folder / "written", package)
    found: dict[str, Any] = {}
    for style in ("turns", "message"):
        plan = {**plan_of(folder / "chat", folder / "sets", tasks, None, args.limit), "chat": style}
        plan["shots"] = 2
        plan["metrics"] = {task: metrics for task, metrics in plan["metrics"].items() if task != "truthfulqa_mc1"}
        own = [name for name in names if "truthfulqa" not in name]
        ours = turn("ingot", plan, sys.executable, folder)
        theirs = turn("lm-eval", {**plan, "tasks_folder": str(folder / "peer"), "tasks": own}, args.lm_eval, folder)
        peer = {"tasks_folder": str(folder / "written-peer")}
        answers, _ = both_write(args, folder / "chat", folder, written_names, peer, style)
        found[style] = {**compared(ours, theirs), **answers}
        print(style, json.dumps(found[style], ensure_ascii=False), flush=True)
    return found


def record(path: Path, shots: int, limit: int, metrics: dict[str, list[str]], peer: dict[str, Any]) -> None:
    """Keep lm-eval's numbers for the tests: log-likelihoods by task and item, rounded to 1e-5."""
    known = json.loads(path.read_text()) if path.exists() else {"limit": limit, "runs": {}}
    known["runs"][str(shots)] = {
        task.removeprefix("parity_"): [[round(float(each[0]), 5) for each in one["resps"]] for one in own]
        for task, own in peer["samples"].items()
    }
    known["metrics"] = metrics
    path.write_text(json.dumps(known) + "\n")


def timed(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """MMLU and HellaSwag in turns; lm-eval first at each batch size on a part, then at its best."""
    from evaluate_sets import write_peer_tasks, write_sets

    write_sets(folder / "sets", args.data, ["mmlu", "hellaswag"])
    make_model(folder / "timed", args.data, 4096, TIMED_SHAPE)
    package, found = peer_package(args.lm_eval), {}
    for task, shots, limit in TIMED:
        names = write_peer_tasks(folder / task, folder / "sets", [task], package)
        plan = plan_of(folder / "timed", folder / "sets", [task], shots, limit)
        plan["metrics"] = {task: ["acc"] if task == "mmlu" else ["acc", "acc_norm"]}
        peer = {**plan, "tasks_folder": str(folder / task), "tasks": names}
        few = max(2, limit // 16)
        tries = {
            size: turn("lm-eval", {**peer, "batch_size": size, "limit": few}, args.lm_eval, folder)["cpu_s"]
            for size in BATCHES
        }
        best = min(tries, key=tries.__getitem__)
        seconds: dict[str, list[dict[str, float]]] = {"ingot": [], "lm-eval": []}
        for _ in range(args.turns):
            ours = turn("ingot", plan, sys.executable, folder)
            theirs = turn("lm-eval", {**peer, "batch_size": best}, args.lm_eval, folder)
            for side, one in (("ingot", ours), ("lm-eval", theirs)):
                seconds[side].append({"cpu_s": round(one["cpu_s"], 2), "wall_s": round(one["wall_s"], 2)})
        middle = {side: statistics.median(each["cpu_s"] for each in all_) for side, all_ in seconds.items()}
        found[task] = {
            "shots": shots, "batch_sizes_tried_s": tries, "batch_size": best, "cpu_s": middle, "all": seconds,
            "times_faster": round(middle["lm-eval"] / middle["ingot"], 2), **compared(ours, theirs)[task],
        }  # fmt: skip
        print(task, json.dumps(found[task]), flush=True)
    return found


if __name__ == "__main__":
    main()
