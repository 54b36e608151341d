"""Pre-training speed: ingot's loop against transformers' Trainer, compiled, same model, same batches, one run.

    python benchmarks/pretrain.py                       # writes benchmarks/results/pretrain-DATE.json
    python benchmarks/pretrain.py --depth 6 --width 384 --vocab 8192 --length 512 --rows 8 --steps 8 --turns 2

Each side runs in a process of its own, the sides take turns, every turn starts from the same weights and sees the same
tokens, so the losses must agree; the share of the machine's own matrix-product peak is measured in the same run. bf16
is given one step where the machine computes it in slow reference code.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIDES = ("ingot-bf16", "ingot-fp32", "ingot-bf16-4-micro-batches", "trainer-bf16-compile", "trainer-fp32-compile")
WARMUP = 3
RATE = 1e-3


def gemm_peak(dtype: Any, device: str) -> float:
    """FLOP/s of a product of square matrices of random numbers, the best of a few; fewer where it is very slow."""
    import torch

    size = 8192 if device == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, begin = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - begin < 2:
        start = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def batches(vocab: int, rows: int, length: int, steps: int) -> Any:
    """Random token ids (steps, rows, length): speed does not depend on what they are."""
    import torch

    return torch.randint(0, vocab, (steps, rows, length), generator=torch.Generator().manual_seed(0))


def run_ingot(model: Path, ids: Any, micro_batches: int, bf16: bool) -> dict[str, Any]:
    """Ingot's own loop, from the options of `ingot pretrain`."""
    import numpy as np
    import torch

    from ingot.adapt.load import load
    from ingot.data.pack import Rows
    from ingot.train.checkpoint import Place
    from ingot.train.loop import Run
    from ingot.train.machine import default_device
    from ingot.train.plan import Plan
    from ingot.train.settings import LoopOptions

    steps, size, length = ids.shape
    targets = np.ones((steps * size, length), bool)
    targets[:, 0] = False
    flat = ids.reshape(-1, length).numpy().astype(np.int32)

    class InOrder(Rows):
        """Rows in the order they lie, so that both sides see the same batches."""

        def batch(self, step: int, size: int, seed: int) -> Any:
            from ingot.data.pack import Batch

            rows = np.arange(step * size, (step + 1) * size)
            return Batch(self.ids[rows], self.segments[rows], self.targets[rows], rows)

    decoder = load(model).decoder.requires_grad_(True).to(default_device())
    options = LoopOptions(weight_decay=0.0, warmup=0.0, final=1.0, compile="on", micro_batches=micro_batches)
    precision = torch.bfloat16 if bf16 else torch.float32
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        rows = InOrder(flat, np.zeros_like(flat), targets)
        Run(decoder, rows, Plan(steps, None, size, RATE, 0, precision, options), place).go(resumed=False)
        lines = [json.loads(line) for line in place.metrics.read_text().splitlines()]
    seconds = [line["seconds"] for line in lines]
    return {
        "loss": [line["loss"] for line in lines],
        "seconds": [b - a for a, b in zip([0.0, *seconds], seconds, strict=False)],
    }


def make_clock() -> tuple[Any, list[float], list[float]]:
    """A callback for transformers' Trainer, and the seconds and losses of the steps that it will have seen."""
    import torch
    from transformers import TrainerCallback

    times: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[-1] = time.perf_counter() - times[-1]

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                losses.append(float(logs["loss"]))

    return Clock(), times, losses


def run_trainer(model: Path, ids: Any, bf16: bool) -> dict[str, Any]:
    """transformers' Trainer with torch_compile, AdamW fused, on the same batches."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    steps, size, _ = ids.shape
    clock, times, losses = make_clock()
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), use_cpu=not torch.cuda.is_available(), bf16=bf16, torch_compile=True,
        per_device_train_batch_size=size, max_steps=steps, learning_rate=RATE, lr_scheduler_type="constant",
        weight_decay=0.0, adam_beta2=0.95, adam_epsilon=1e-8, max_grad_norm=1.0, optim="adamw_torch_fused",
        logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, dataloader_drop_last=True,
        train_sampling_strategy="sequential",
    )  # fmt: skip
    rows = [{"input_ids": row, "labels": row} for row in ids.flatten(0, 1)]
    Trainer(network, arguments, train_dataset=rows, callbacks=[clock]).train()
    return {"loss": losses, "seconds": times}


def child(side: str, model: Path, rows: int, length: int, steps: int) -> None:
    """One turn of one side; prints its result as JSON."""
    import torch

    from ingot.train.memory.resident import peak_bytes

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    vocab = json.loads((model / "config.json").read_text())["vocab_size"]
    ids = batches(vocab, rows, length, steps)
    ours = side.startswith("ingot")
    bf16 = "bf16" in side
    micro_batches = int(side.split("-")[2]) if side.endswith("micro-batches") else 1
    result = run_ingot(model, ids, micro_batches, bf16) if ours else run_trainer(model, ids, bf16)
    peak = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else peak_bytes()
    print(json.dumps(result | {"peak_mib": peak / 2**20}))


def make_model(path: Path, depth: int, width: int | None, vocab: int, length: int) -> int:
    """A model directory with ingot's own initial weights; returns its parameters. `width`: other than depth's own."""
    from ingot.model.config import ModelConfig
    from ingot.model.weights import spec_of, write_tensors
    from ingot.train.dial import config
    from ingot.train.initial import initialise

    class Ids:
        vocab_size, bos_id, eos_id, pad_id = vocab, None, 0, 1

    content = config("qwen3", depth, length, Ids())  # type: ignore[arg-type]
    if width:
        content |= {"hidden_size": width, "intermediate_size": -(-width * 8 // 3 // 32) * 32, "head_dim": 64,
                    "num_attention_heads": width // 64, "num_key_value_heads": width // 64}  # fmt: skip
    path.mkdir()
    (path / "config.json").write_text(json.dumps(content))
    decoder = initialise(ModelConfig.read(content, path), seed=0)
    state = decoder.state_dict()
    write_tensors(path / "model.safetensors", spec_of(state), state.items())
    return sum(parameter.numel() for parameter in decoder.parameters())


def turn(side: str, model: Path, args: argparse.Namespace, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", side, "--model", str(model), "--steps", str(steps),
               "--rows", str(args.rows), "--length", str(args.length)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"INGOT_PROGRESS": "0"})
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def hardware() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def compared(
    turns: dict[str, list[dict[str, Any]]], args: argparse.Namespace, parameters: int, peaks: dict[str, float]
) -> dict[str, Any]:
    """Each side in figures, and the first against the others. A token's FLOPs count attention whole (PaLM's way)."""
    tokens, width = args.rows * args.length, args.width or 32 * args.depth
    flops = 6 * parameters + 12 * args.depth * width * args.length
    sides: dict[str, dict[str, Any]] = {}
    for side, found in turns.items():
        steady = [second for one in found for second in one["seconds"][min(WARMUP, len(one["seconds"]) - 1) :]]
        rate = tokens / statistics.median(steady)
        sides[side] = {
            "tokens_per_second": round(rate, 1), "steps_timed": len(steady),
            "share_of_peak": round(flops * rate / peaks["bf16" if "bf16" in side else "fp32"], 3),
            "fastest_slowest_step_s": [round(min(steady), 3), round(max(steady), 3)],
            "peak_mib": round(max(one["peak_mib"] for one in found)),
            "first_loss": round(found[0]["loss"][0], 4), "last_loss": round(found[0]["loss"][-1], 4),
            "steps": len(found[0]["loss"]),
        }  # fmt: skip
    first, others = sides[args.sides[0]], args.sides[1:]
    return {
        "sides": sides,
        "memory_of": {side: round(first["peak_mib"] / sides[side]["peak_mib"], 2) for side in others},
        "ratio_to": {side: round(first["tokens_per_second"] / sides[side]["tokens_per_second"], 2) for side in others},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--width", type=int, help="hidden size, heads of 64; by default what depth says")
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=list(SIDES), help="the first is compared with the rest"
    )
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--child", choices=SIDES)
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.model, args.rows, args.length, args.steps)
        return
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    peaks = {name: gemm_peak(dtype, device) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    slow = peaks["bf16"] < peaks["fp32"] / 4
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        parameters = make_model(model, args.depth, args.width, args.vocab, args.length)
        turns: dict[str, list[dict[str, Any]]] = {side: [] for side in args.sides}
        for number in range(args.turns):
            for side in args.sides:
                if "bf16" in side and slow:
                    if number == 0:
                        turns[side].append(turn(side, model, args, 2))
                    continue
                turns[side].append(turn(side, model, args, args.steps))
                print(side, number, flush=True)
    result = {
        "date": datetime.date.today().isoformat(), "hardware": hardware(), "torch": torch.__version__,
        "transformers": transformers.__version__, "parameters": parameters, "tokens_per_step": args.rows * args.length,
        "gemm_peak_gflops": {name: round(peak / 1e9, 1) for name, peak in peaks.items()},
        **compared(turns, args, parameters, peaks),
    }  # fmt: skip
    name = f"pretrain-{round(parameters / 1e6)}m-{device}-{result['date']}.json"
    out = args.out or Path(__file__).parent / "results" / name
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
