"""Peak memory of training: what `ingot plan memory` predicts against what was taken, over many settings.

    python benchmarks/memory.py                # on CPU; writes benchmarks/results/memory-cpu-DATE.json
    python benchmarks/memory.py --device cuda
    python benchmarks/memory.py --writing      # inference on CPU; writes .../memory-writing-cpu-DATE.json
    python benchmarks/memory.py --packed       # the same on int8 and int4; writes .../memory-packed-cpu-DATE.json
    python benchmarks/memory.py --only 0 3

Each setting trains two steps through the real loop. On CPU it does so in a process of its own, whose largest resident
size is compared with the prediction that was made before it started; on a card, with what the allocator reserved beside
the context. Documents fill half a window, so rows hold two, as in the plan. Nothing is compiled. Inference is measured
the same way: a process is `ingot generate` and writes texts until every one is as long as planned. On packed weights it
is measured twice, where weights are packed first and where they have been.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from memory_cases import CASES, CUDA_CASES, PACKED_CASES, WRITING_CASES

from ingot.core.cache import cache_directory

ROOT = Path(__file__).parents[1]


NEW = 4
"""Tokens written of each text."""


def content_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """config.json of a case."""
    from ingot.train import dial

    content = {"model_type": wanted["family"], "vocab_size": wanted["vocab"], "dtype": "float32", "pad_token_id": 0}
    if "shape" in wanted["how"]:
        content |= wanted["how"]["shape"] | {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_act": "silu"}
        content |= {"tie_word_embeddings": True}
    else:
        content |= dial.CONFIGS[wanted["family"]](wanted["depth"], wanted["length"])
    if "kv_heads" in wanted["how"]:
        content["num_key_value_heads"] = wanted["how"]["kv_heads"]
    return content | {"decoder_start_token_id": 0, "eos_token_id": 1}


def config_of(wanted: dict[str, Any]) -> Any:
    """The network of a case."""
    from ingot.model.config import ModelConfig

    return ModelConfig.read(content_of(wanted), Path(wanted["family"]))


def setting_of(wanted: dict[str, Any]) -> Any:
    """The plan's view of a case."""
    from ingot.train.memory.setting import Setting
    from ingot.train.method import PromptOptions

    how = dict(wanted["how"])
    if "prompt" in how:
        how["prompt"] = PromptOptions(**how["prompt"])
    return Setting(config_of(wanted), wanted["length"], wanted["rows"], **how)


def filled(config: Any) -> Any:
    """A network whose weights are all the same number, which takes as much memory as any."""
    import torch

    from ingot.model.network import make_network

    with torch.device("meta"):
        network = make_network(config)
    network.to_empty(device="cpu")
    network.reset_buffers()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    return network.requires_grad_(True)


def train(wanted: dict[str, Any], folder: Path) -> None:
    """Two steps of the real loop."""
    import numpy as np
    import torch

    from ingot.adapt.active import Active
    from ingot.adapt.methods import put_on
    from ingot.data.pack import pack_documents
    from ingot.model.nf4_linear import hold_in_nf4
    from ingot.train.checkpoint import Place
    from ingot.train.distributed.world import World
    from ingot.train.loop import Run
    from ingot.train.memory.rehearsal import lesson
    from ingot.train.method import TUNED
    from ingot.train.offload import move
    from ingot.train.plan import Plan
    from ingot.train.settings import LoopOptions

    setting = setting_of(wanted)
    network = filled(config_of(wanted))
    if setting.method == "qlora":
        dense = dict(network.named_parameters())
        for name, layer in hold_in_nf4(network, wanted["family"]).items():
            layer.fill(dense.pop(name).detach())
        del dense
    if setting.adapter is not None:
        put_on(network, setting.adapter, TUNED, Active())
    how = {key: value for key, value in wanted["how"].items() if key in LoopOptions.model_fields}
    options = LoopOptions.of(compile="off", **({"precision": "fp32"} | how))
    rows, length = wanted["rows"], wanted["length"]
    generator = np.random.default_rng(0)
    documents = [generator.integers(3, wanted["vocab"], length // 2).tolist() for _ in range(4 * rows)]
    packed = pack_documents(documents, length)
    plan = Plan(2, None, rows, 1e-4, 0, torch.bfloat16 if options.precision == "bf16" else torch.float32, options)
    place = Place.beside(folder / "out")
    place.begin({}, False)
    made = lesson(setting_of(wanted | {"how": {}}), network)
    teach = None if wanted["family"] in {"qwen3", "llama", "gpt2"} else lambda batch, seed, step: made
    extra = {} if teach is None else {"teach": teach}
    Run(move(network, options, torch.device(setting.device), place.path, World()), packed, plan, place, **extra).go(
        False
    )


def save(wanted: dict[str, Any], folder: Path) -> None:
    """A model directory to write with, and texts to go on with: a character is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from ingot.model.weights import DTYPES, spec_of, write_tensors

    dtype = DTYPES[wanted["how"].get("stored", "F32")]
    state = {name: tensor.to(dtype) for name, tensor in filled(config_of(wanted)).state_dict().items()}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content_of(wanted)))
    write_tensors(folder / "model.safetensors", spec_of(state), state.items())
    alphabet = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "pad_token": "<pad>"}))
    texts = [f"{number:04}".ljust(wanted["length"] - NEW, "x") for number in range(wanted["rows"])]
    (folder.parent / "texts.txt").write_text("\n".join(texts) + "\n")


def write(wanted: dict[str, Any], folder: Path) -> None:
    """Texts that fill the window, a few tokens of each written, by the verb."""
    import ingot
    import ingot.cli

    how, out = wanted["how"], folder.parent / "written.jsonl"
    out.unlink(missing_ok=True)
    done = ingot.generate(str(folder), prompts_file=folder.parent / "texts.txt", out=out, slots=wanted["rows"],
                          max_tokens=NEW, rare={"ignore_eos": True}, weights=how.get("weights", "dense"),
                          cache={"kv": how.get("kv", "auto"), "gib": 64.0})  # fmt: skip
    assert done.num_tokens == NEW * wanted["rows"], done.num_tokens


def child(kind: str, number: int, folder: str) -> float:
    """What a process of its own says last."""
    command = [sys.executable, __file__, "--child", kind, "--only", str(number), "--folder", folder]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(number: int) -> float:
    """Largest resident size of a process that trains a case, bytes."""
    with tempfile.TemporaryDirectory() as folder:
        return child("train", number, folder)


def measure_writing(number: int, kind: str = "writing") -> tuple[float, ...]:
    """Largest resident size of a process that writes by a model which another has saved; of one on packed weights, of
    a second start, and of the first, which packs."""
    with tempfile.TemporaryDirectory() as folder:
        child(f"save-{kind}", number, f"{folder}/model")
        found = [child(f"write-{kind}", number, f"{folder}/model") for _ in range(2 if kind == "packed" else 1)]
        return tuple(reversed(found))


def measure_packed(number: int) -> tuple[float, ...]:
    """The same; what is packed is kept in a cache of its own."""
    with tempfile.TemporaryDirectory() as cache:
        kernels = cache_directory("kernels")
        if kernels is not None:
            (Path(cache) / "kernels").symlink_to(kernels)
        before = os.environ.get("INGOT_CACHE")
        os.environ["INGOT_CACHE"] = cache
        try:
            return measure_writing(number, "packed")
        finally:
            os.environ.pop("INGOT_CACHE") if before is None else os.environ.update(INGOT_CACHE=before)


def context_bytes() -> float:
    """What a card holds for this process beside tensors, once every library it trains with has been used."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return float(total - free - torch.cuda.memory_reserved())


def measure_on_card(number: int) -> float:
    """The most that torch's allocator held while a case trained, bytes."""
    import gc

    import torch

    from ingot.train.machine import default_device

    assert default_device().type == "cuda"
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        train(CUDA_CASES[number], Path(folder))
    print(f"   allocated {torch.cuda.max_memory_allocated() / 1e6:.0f} MB")
    return float(torch.cuda.max_memory_reserved())


def be_child(kind: str, number: int, folder: Path) -> None:
    """What `child` starts: do one thing and say how large the process became."""
    from ingot.train.memory.resident import peak_bytes

    work, _, of = kind.partition("-")
    cases = {"": CASES, "writing": WRITING_CASES, "packed": PACKED_CASES}[of]
    {"train": train, "save": save, "write": write}[work](cases[number], folder)
    print(peak_bytes())


def predict(wanted: dict[str, Any], kind: str, process: float) -> tuple[Any, float | None]:
    """What the plan says of a case, and of a first start on packed weights."""
    from ingot.train.memory.predict import first_start, inference, training

    if kind in ("cpu", "cuda"):
        return training(setting_of(wanted), process), None
    use = use_of(wanted)
    needs = inference(use, process)
    return needs, None if use.packer is None else first_start(use, needs)


def use_of(wanted: dict[str, Any]) -> Any:
    """How a case writes."""
    from ingot.infer.capacity import DTYPES
    from ingot.model.packed_load import make_plan
    from ingot.model.packing import Packer
    from ingot.train.memory.inference import Use
    from ingot.train.memory.packed import imagined, shapes_of

    config, how = config_of(wanted), wanted["how"]
    base = imagined(content_of(wanted), wanted["family"], shapes_of(config), how.get("stored", "F32"))
    plan = make_plan(base, how.get("weights", "dense"))
    return Use(config, wanted["rows"], wanted["length"], packer=Packer(base, plan) if plan else None,
               kv=DTYPES[how.get("kv", "float32")])  # fmt: skip


def compare(kind: str, only: list[int] | None, process: float) -> list[dict[str, Any]]:
    """Every case, predicted and measured."""
    cases, measured_by = {"cpu": (CASES, measure), "cuda": (CUDA_CASES, measure_on_card),
                          "writing": (WRITING_CASES, measure_writing),
                          "packed": (PACKED_CASES, measure_packed)}[kind]  # fmt: skip
    found = []
    for number, wanted in enumerate(cases):
        if only is not None and number not in only:
            continue
        begin = time.perf_counter()
        needs, first = predict(wanted, kind, process)
        planned = time.perf_counter() - begin
        measured = measured_by(number)
        sizes = measured if isinstance(measured, tuple) else (measured,)
        error = needs.total / sizes[0] - 1
        one = wanted | {"predicted": round(needs.total), "measured": round(sizes[0]), "error": round(error, 4),
                        "parts": {k: round(v) for k, v in vars(needs).items()}}  # fmt: skip
        if first is not None:
            one["first_start"] = {"predicted": round(first), "measured": round(sizes[1]),
                                  "error": round(first / sizes[1] - 1, 4)}  # fmt: skip
        found.append(one)
        print(f"{number:>2} {wanted['family']:>10} {wanted['depth']:>2} {wanted['how']!s:<50} predicted "
              f"{needs.total / 1e6:7.0f} measured {sizes[0] / 1e6:7.0f} MB  {error:+.1%}  ({planned:.1f} s)",
              {k: round(v / 1e6) for k, v in vars(needs).items()}, one.get("first_start", ""), flush=True)  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", type=int, nargs="*")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--writing", action="store_true")
    parser.add_argument("--packed", action="store_true")
    parser.add_argument("--child")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.child:
        be_child(given.child, given.only[0], given.folder)
        return
    from ingot.train.memory.predict import process_bytes, writing_process_bytes

    kind = "packed" if given.packed else "writing" if given.writing else given.device
    process = {"cpu": process_bytes, "cuda": lambda _: 0.0}.get(kind, writing_process_bytes)("cpu")
    found = compare(kind, given.only, process)
    if kind == "cuda":
        process = context_bytes()
        print(f"context {process / 1e6:.0f} MB")
    errors = sorted(abs(one["error"]) for one in found)
    print(f"largest error {errors[-1]:.1%}, median {errors[len(errors) // 2]:.1%} over {len(found)}")
    if given.only is None or given.out:
        date = datetime.date.today().isoformat()
        name = kind if kind in ("cpu", "cuda") else f"{kind}-cpu"
        path = given.out or ROOT / "benchmarks" / "results" / f"memory-{name}-{date}.json"
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "libc": platform.libc_ver()[1]}
        content = {"date": date, **machine, "process": round(process), "cases": found}
        path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
