"""Writing text on a CPU: ingot's engine against llama.cpp, OpenVINO and transformers, same weights, same bits, one run.

    python -m venv llama && llama/bin/pip install llama-cpp-python==0.3.36 gguf safetensors torch
    python -m venv openvino && openvino/bin/pip install "optimum-intel[openvino]" openvino-genai torch
    openvino/bin/pip uninstall torchvision
    python benchmarks/decode.py --llama llama/bin/python --openvino openvino/bin/python

A Qwen2-shaped model with random weights, stored in bf16, which every side quantises its own way. Measured first: how
fast this machine reads memory, and how many 8-bit operations its tiles do; then, side by side in turns, the tokens a
second of 1, 8 and 16 texts that go on behind 32 tokens, and of reading 512. Each side runs in a process of its own with
the same number of threads. Before anything is timed each side's logits behind 64 tokens are compared with those of the
weights as they are stored: Kullback-Leibler divergence, and whether the likeliest token is the same.

llama.cpp runs without its own AMX buffers where they crash (`use_extra_bufts=False`); the result says which.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDES = (
    "ingot-int8", "ingot-int4", "llama-q8_0", "llama-q4_0", "openvino-int8", "openvino-int4", "ingot-bf16",
    "transformers-bf16",
)  # fmt: skip
BATCHES = (1, 8, 16)
PROMPT, NEW, READ, GATE = 32, 32, 512, 64
MORE_SHAPES = {
    "1.7b": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "vocab_size": 151936},
}


def run_ingot(folder: Path, weights: str) -> dict[str, Any]:
    """The engine as `ingot generate` runs it, greedy."""
    import torch

    from ingot.adapt.load import load
    from ingot.infer.blocks import blocks_for
    from ingot.infer.engine import Engine
    from ingot.infer.runner import Span
    from ingot.infer.sampling import Sampling
    from ingot.model.packed_linear import PackedLinear

    began = time.perf_counter()
    dense = weights == "bf16"
    model = load(folder / "model", dtype=torch.bfloat16 if dense else None, weights="dense" if dense else weights)
    opened = time.perf_counter() - began
    engine = Engine(model, num_slots=max(BATCHES))
    ids = prompts(folder)

    def decode(batch: int) -> list[float]:
        own = Sampling(temperature=0, max_tokens=NEW, ignore_eos=True)
        for number in range(batch):
            engine.submit(ids[number][:PROMPT], own, salt=str(time.perf_counter()))
        seconds = []
        while engine.has_work:
            began = time.perf_counter()
            events = engine.step()
            if len(events) == batch:
                seconds.append(time.perf_counter() - began)
        return seconds[2:]

    def read() -> float:
        engine.submit(ids[0][:READ], Sampling(temperature=0, max_tokens=1), salt=str(time.perf_counter()))
        began = time.perf_counter()
        while engine.has_work:
            engine.step()
        return time.perf_counter() - began

    spans = [Span(ids[0][:GATE], 0, list(range(1, 1 + blocks_for(GATE))), wanted=1)]
    logits = engine.runner.head(engine.runner.run(spans))[0].tolist()
    packed = [module.packed for module in model.network.modules() if isinstance(module, PackedLinear)]
    held = sum(weight.codes.nbytes + weight.scales.nbytes for weight in packed)
    return measured(decode, read) | {"logits": logits, "open_s": round(opened, 3), "packed_bytes": held}


def run_transformers(folder: Path, weights: str) -> dict[str, Any]:
    """Its own loop: a dynamic cache, greedy, sdpa."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16).eval()
    ids = prompts(folder)

    @torch.inference_mode()
    def decode(batch: int) -> list[float]:
        found = model(torch.tensor([row[:PROMPT] for row in ids[:batch]]), use_cache=True, logits_to_keep=1)
        seconds = []
        for _ in range(NEW):
            began = time.perf_counter()
            chosen = found.logits[:, -1:].argmax(-1)
            found = model(chosen, past_key_values=found.past_key_values, use_cache=True)
            seconds.append(time.perf_counter() - began)
        return seconds[2:]

    @torch.inference_mode()
    def read() -> float:
        began = time.perf_counter()
        model(torch.tensor([ids[0][:READ]]), logits_to_keep=1)
        return time.perf_counter() - began

    with torch.inference_mode():
        logits = model(torch.tensor([ids[0][:GATE]]), logits_to_keep=1).logits[0, -1].float().tolist()
    return measured(decode, read) | {"logits": logits}


def run_openvino(folder: Path, weights: str) -> dict[str, Any]:
    """The exported stateful model, as OpenVINO GenAI runs it."""
    import numpy as np
    import openvino

    core = openvino.Core()
    how = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads()}
    compiled = core.compile_model(folder / f"openvino-{weights}" / "openvino_model.xml", "CPU", how)
    request, ids = compiled.create_infer_request(), prompts(folder)
    names = {given.get_any_name() for given in compiled.inputs}

    def step(rows: Any, past: int) -> Any:
        batch, length = rows.shape
        given = {
            "input_ids": rows, "attention_mask": np.ones((batch, past + length), np.int64),
            "position_ids": np.tile(np.arange(past, past + length), (batch, 1)),
            "beam_idx": np.arange(batch, dtype=np.int32),
        }  # fmt: skip
        request.infer({name: value for name, value in given.items() if name in names})
        return request.get_tensor("logits").data

    def decode(batch: int) -> list[float]:
        request.reset_state()
        logits = step(np.array([row[:PROMPT] for row in ids[:batch]]), 0)
        seconds = []
        for at in range(PROMPT, PROMPT + NEW):
            began = time.perf_counter()
            logits = step(logits[:, -1:].argmax(-1), at)
            seconds.append(time.perf_counter() - began)
        return seconds[2:]

    def read() -> float:
        request.reset_state()
        began = time.perf_counter()
        step(np.array([ids[0][:READ]]), 0)
        return time.perf_counter() - began

    logits = step(np.array([ids[0][:GATE]]), 0)[0, -1].astype(float).tolist()
    return measured(decode, read) | {"logits": logits, "kv": str(compiled.get_property("KV_CACHE_PRECISION"))}


def run_llama(folder: Path, weights: str) -> dict[str, Any]:
    """llama.cpp's own C interface; its repacking and AMX buffers on where they work."""
    import llama_cpp as llama
    import numpy as np

    quiet = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    llama.llama_backend_init()
    params = llama.llama_model_default_params()
    params.use_extra_bufts = os.environ.get("LLAMA_EXTRA", "1") == "1"
    model = llama.llama_model_load_from_file(str(folder / f"{weights}.gguf").encode(), params)
    given = llama.llama_context_default_params()
    given.n_ctx, given.n_batch, given.n_ubatch, given.n_seq_max, given.kv_unified = 8192, 2048, 512, 16, True
    given.n_threads = given.n_threads_batch = threads()
    context = llama.llama_init_from_model(model, given)
    ids = prompts(folder)

    def step(tokens: list[int], positions: list[int], rows: list[int], wanted: list[bool]) -> None:
        batch = llama.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for at, (token, position, row, want) in enumerate(zip(tokens, positions, rows, wanted, strict=True)):
            batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, position, 1, want
            batch.seq_id[at][0] = row
        assert llama.llama_decode(context, batch) == 0
        llama.llama_synchronize(context)
        llama.llama_batch_free(batch)

    def begin(row: int, length: int) -> None:
        step(ids[row][:length], list(range(length)), [row] * length, [at == length - 1 for at in range(length)])

    def clear() -> None:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)

    size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def logits(row: int) -> Any:
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, row), (size,))

    def decode(batch: int) -> list[float]:
        clear()
        chosen = []
        for row in range(batch):
            begin(row, PROMPT)
            chosen.append(int(logits(PROMPT - 1).argmax()))
        seconds = []
        for at in range(PROMPT, PROMPT + NEW):
            began = time.perf_counter()
            step(chosen, [at] * batch, list(range(batch)), [True] * batch)
            chosen = [int(logits(row).argmax()) for row in range(batch)]
            seconds.append(time.perf_counter() - began)
        return seconds[2:]

    def read() -> float:
        clear()
        began = time.perf_counter()
        begin(0, READ)
        return time.perf_counter() - began

    clear()
    begin(0, GATE)
    found = logits(GATE - 1).astype(float).tolist()
    return measured(decode, read) | {"logits": found, "extra_buffers": bool(params.use_extra_bufts)}


RUN: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "ingot": run_ingot, "transformers": run_transformers, "openvino": run_openvino, "llama": run_llama,
}  # fmt: skip


def measured(decode: Callable[[int], list[float]], read: Callable[[], float]) -> dict[str, Any]:
    """Seconds of steps by batch, and of reading; the first of each is thrown away."""
    decode(1), read()
    return {"decode": {str(batch): decode(batch) for batch in BATCHES}, "read": [read() for _ in range(3)]}


def prompts(folder: Path) -> list[list[int]]:
    found: list[list[int]] = json.loads((folder / "prompts.json").read_text())
    return found


def threads() -> int:
    return int(os.environ.get("THREADS", os.cpu_count() or 1))


def roofline() -> dict[str, float]:
    """GB/s of reading with all threads, in huge pages and in those that the system gives unasked; the best of many sums
    over one GiB."""
    import torch

    torch.set_num_threads(threads())
    memory = mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    huge, numbers = torch.frombuffer(memory, dtype=torch.float32).fill_(1), torch.ones(1 << 28)
    best, best_huge = (min(timed(each.sum) for _ in range(12)) for each in (numbers, huge))
    a, b = torch.randn(2048, 2048, dtype=torch.bfloat16), torch.randn(2048, 2048, dtype=torch.bfloat16)
    gemm = min(timed(lambda: a @ b) for _ in range(12))
    return {
        "read_gb_s": round(numbers.nbytes / best_huge / 1e9, 1),
        "read_small_pages_gb_s": round(numbers.nbytes / best / 1e9, 1),
        "bf16_gemm_tflop_s": round(2 * 2048**3 / gemm / 1e12, 2),
    }


def timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def make(folder: Path, args: argparse.Namespace) -> None:
    """The model, the prompts, what the peers make of it, and the logits of the weights as they are."""
    import random

    import torch
    from tune import SHAPES, make_model

    from ingot.adapt.load import load

    shape = (SHAPES | MORE_SHAPES)[args.shape]
    if not (folder / "model").exists():
        make_model(folder / "model", shape, 4096)
    chooser = random.Random(0)
    rows = [[chooser.randrange(shape["vocab_size"] - 10) for _ in range(READ)] for _ in range(max(BATCHES))]
    (folder / "prompts.json").write_text(json.dumps(rows))
    logits = load(folder / "model").logits([rows[0][:GATE]])[0, -1]
    torch.save(logits, folder / "logits.pt")
    for side in args.sides:
        name, _, weights = side.partition("-")
        made = {"llama": folder / f"{weights}.gguf", "openvino": folder / f"openvino-{weights}"}.get(name)
        if made is not None and not made.exists():
            subprocess.run([getattr(args, name), __file__, "--convert", side, "--folder", folder], check=True)


def convert(side: str, folder: Path) -> None:
    """In the peer's environment."""
    name, _, weights = side.partition("-")
    if name == "openvino":
        from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

        how = {"int8": {"bits": 8}, "int4": {"bits": 4, "sym": True, "group_size": 128}}[weights]
        model = OVModelForCausalLM.from_pretrained(
            folder / "model", export=True, quantization_config=OVWeightQuantizationConfig(**how)
        )
        model.save_pretrained(folder / f"openvino-{weights}")
        return
    import llama_cpp as llama
    from gguf_file import write_gguf

    whole = folder / "f16.gguf"
    if not whole.exists():
        write_gguf(folder / "model", whole)
    params = llama.llama_model_quantize_default_params()
    params.ftype = {"q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama.LLAMA_FTYPE_MOSTLY_Q4_0}[weights]
    params.nthread = threads()
    out = folder / f"{weights}.gguf"
    assert llama.llama_model_quantize(str(whole).encode(), str(out).encode(), ctypes.byref(params)) == 0


def child(side: str, folder: Path) -> None:
    name, _, weights = side.partition("-")
    if name in {"ingot", "transformers"}:
        import torch

        torch.set_num_threads(threads())
    print(json.dumps(RUN[name](folder, weights)))


def turn(side: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    name = side.partition("-")[0]
    python = {"llama": args.llama, "openvino": args.openvino}.get(name, sys.executable)
    command = [python, __file__, "--child", side, "--folder", folder]
    for extra in ("1", "0") if name == "llama" else ("1",):
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LLAMA_EXTRA": extra})
        if done.returncode == 0:
            found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
            return found
    raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")


def gate(folder: Path, logits: list[float]) -> dict[str, float | bool]:
    """How far a side's logits are from those of the stored weights."""
    import torch

    whole, found = torch.load(folder / "logits.pt").double(), torch.tensor(logits).double()
    p, q = whole.log_softmax(-1), found[: len(whole)].log_softmax(-1)
    return {
        "kl": round(float((p.exp() * (p - q)).sum()), 6),
        "error": round(float((found[: len(whole)] - whole).norm() / whole.norm()), 4),
        "same_best": int(p.argmax()) == int(q.argmax()),
    }


def figures(turns: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Medians over all turns."""
    steps = {batch: [s for one in turns for s in one["decode"][str(batch)]] for batch in BATCHES}
    return {
        "tokens_per_second": {str(batch): round(batch / statistics.median(steps[batch]), 1) for batch in BATCHES},
        "fastest": {str(batch): round(batch / min(steps[batch]), 1) for batch in BATCHES},
        "read_512_tokens_per_second": round(READ / statistics.median(s for one in turns for s in one["read"]), 1),
        "gate": gate(folder, turns[0]["logits"]),
        **{name: turns[0][name] for name in ("open_s", "kv", "extra_buffers", "packed_bytes") if name in turns[0]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["tiny", "0.1b", "0.5b", "1.7b"], default="0.5b")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--llama", default=sys.executable, help="python of the environment with llama-cpp-python")
    parser.add_argument("--openvino", default=sys.executable, help="python of the environment with optimum-intel")
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--folder", type=Path, help="where to keep the models (default: made anew)")
    parser.add_argument("--child", choices=SIDES)
    parser.add_argument("--convert", choices=SIDES)
    args = parser.parse_args()
    if args.child or args.convert:
        (child if args.child else convert)(args.child or args.convert, args.folder)
        return
    from pretrain import hardware

    with tempfile.TemporaryDirectory() as place:
        folder = args.folder or Path(place)
        folder.mkdir(exist_ok=True)
        make(folder, args)
        turns: dict[str, list[dict[str, Any]]] = {side: [] for side in args.sides}
        limits = [roofline()]
        for number in range(args.turns):
            for side in args.sides:
                turns[side].append(turn(side, args, folder))
                print(f"turn {number + 1}: {side} {figures(turns[side][-1:], folder)}", flush=True)
            limits.append(roofline())
        result = {
            "date": datetime.date.today().isoformat(), "hardware": hardware(), "threads": threads(),
            "shape": args.shape, "limits": limits, "sides": {side: figures(turns[side], folder) for side in args.sides},
        }  # fmt: skip
    out = args.out or Path(__file__).parent / "results" / f"decode-{args.shape}-{result['date']}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
