"""Supervised tuning: ingot's loop against PEFT + TRL, same adapter, same conversations in every step, one run.

    python -m venv peers && peers/bin/pip install -c constraints.txt torch transformers peft trl
    python benchmarks/tune.py --peers peers/bin/python                    # writes benchmarks/results/tune-DATE.json
    python benchmarks/tune.py --peers peers/bin/python --shape 0.5b --steps 6 --turns 2

A Qwen-shaped model with random weights stored in bf16, LoRA of rank 16 on every linear layer, lengths drawn as
instruction sets have them. Ingot packs the conversations of a step into rows. The peers, PEFT under TRL's SFTTrainer
and under transformers' own Trainer, pad them, on their grouped sides in micro-batches by length. Either way the loss is
the mean over the tokens of the answers, so the losses must agree.
Tokens are those of conversations, padding is none. Each side runs in a process of its own, the sides take turns.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

SIDES = (
    "ingot", "ingot-checkpointing", "ingot-qlora", "trl", "trl-grouped", "trl-grouped-compile",
    "trl-grouped-checkpointing", "trainer-grouped", "trainer-grouped-compile", "trainer-grouped-checkpointing",
)  # fmt: skip
GROUPS = 4
"""Micro-batches of the grouped sides, in which conversations of a step stand by length, so that less is padded."""

WARMUP = 3
RATE = 1e-3
SHAPES = {
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "vocab_size": 4096},
    "0.1b": {"hidden_size": 512, "intermediate_size": 2816, "num_hidden_layers": 10, "vocab_size": 151936},
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "vocab_size": 151936},
    "1b": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "vocab_size": 151936},
    "8b": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "vocab_size": 151936},
}
"""Qwen2's proportions; 1b is Qwen2-1.5B, 8b Qwen3-8B with its untied head."""


class Chat(NamedTuple):
    """Token ids of a conversation, and where its answer begins."""

    ids: list[int]
    answer: int


def chats(vocab: int, count: int, longest: int) -> list[Chat]:
    """Random ids; lengths are log-normal with a median of 181 tokens, of which the answer is 60 %."""
    import numpy as np

    rng = np.random.default_rng(0)
    lengths = np.exp(rng.normal(5.2, 0.7, count)).clip(16, longest).astype(int)
    return [Chat(rng.integers(0, vocab, length).tolist(), int(length * 0.4)) for length in lengths]


def packed(found: list[Chat], length: int) -> Any:
    """The conversations as ingot's `tune` packs them."""
    from ingot.data.pack import pack_chats
    from ingot.text.chat import Rendered

    rendered = (Rendered("", chat.ids, [at >= chat.answer for at in range(len(chat.ids))]) for chat in found)
    return pack_chats(rendered, length)


def run_ingot(folder: Path, plan: dict[str, Any], side: str) -> dict[str, Any]:
    """Ingot's own loop, as `ingot tune` calls it."""
    import numpy as np
    import torch

    from ingot.data.pack import Batch, Rows
    from ingot.train.checkpoint import Place
    from ingot.train.loop import Run
    from ingot.train.machine import default_device
    from ingot.train.plan import Plan
    from ingot.train.settings import LoopOptions

    rows = packed(chats(plan["vocab"], plan["count"], plan["length"]), plan["length"])

    class InOrder(Rows):
        """Rows in the order they lie, so that both sides see the same conversations in each step."""

        def batch(self, step: int, size: int, seed: int) -> Batch:
            at = np.arange(step * size, (step + 1) * size)
            return Batch(self.ids[at], self.segments[at], self.targets[at], at)

    network = begin_ingot(folder, side).to(default_device())
    options = LoopOptions(
        weight_decay=0.0, warmup=0.0, final=1.0, compile="on", micro_batches=plan["micro_batches"],
        checkpointing="on" if side.endswith("checkpointing") else "off",
    )  # fmt: skip
    ordered = InOrder(rows.ids, rows.segments, rows.targets, rows.members)
    with tempfile.TemporaryDirectory() as beside:
        place = Place(Path(beside))
        training = Plan(plan["steps"], None, plan["rows"], RATE, 0, torch.bfloat16, options)
        Run(network, ordered, training, place).go(resumed=False)
        lines = [json.loads(line) for line in place.metrics.read_text().splitlines()]
    seconds = [line["seconds"] for line in lines]
    return {
        "loss": [line["loss"] for line in lines],
        "seconds": [b - a for a, b in zip([0.0, *seconds], seconds, strict=False)],
    }


def begin_ingot(folder: Path, side: str) -> Any:
    """The base with the adapter that both sides begin with, its tensors ready to train."""
    import torch

    from ingot.adapt.load import load

    reference = f"{folder / 'model'}+{folder / 'adapter'}"
    network = load(reference, dtype=torch.bfloat16, nf4=side == "ingot-qlora").network
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    return network


def run_peft(folder: Path, plan: dict[str, Any], side: str) -> dict[str, Any]:
    """A PEFT model whose base is held in bf16, trained by TRL's SFTTrainer or by transformers' Trainer."""
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from pretrain import make_clock
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments

    clock, times, losses = make_clock()

    def ordered(kind: Any) -> Any:
        def loader(self: Any) -> Any:
            return torch.utils.data.DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)

        return type("Ordered", (kind,), {"get_train_dataloader": loader})

    base = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16)
    if torch.cuda.is_available():
        base = base.cuda()
    model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True)
    found = chats(plan["vocab"], plan["count"], plan["length"])
    groups = GROUPS if "grouped" in side else 1
    batches = [part for numbers in plan["documents"] for part in grouped(numbers, found, groups)]
    how = {
        "output_dir": tempfile.mkdtemp(), "use_cpu": not torch.cuda.is_available(), "bf16": True, "report_to": [],
        "torch_compile": side.endswith("compile"), "gradient_checkpointing": side.endswith("checkpointing"),
        "max_steps": plan["steps"], "learning_rate": RATE, "lr_scheduler_type": "constant", "weight_decay": 0.0,
        "adam_beta2": 0.95, "adam_epsilon": 1e-8, "max_grad_norm": 1.0, "optim": "adamw_torch_fused",
        "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, "per_device_train_batch_size": 1,
        "remove_unused_columns": False, "gradient_accumulation_steps": groups,
    }  # fmt: skip
    if side.startswith("trl"):
        from trl import SFTConfig, SFTTrainer

        data = Dataset.from_dict({
            "input_ids": [chat.ids for chat in found],
            "completion_mask": [[int(at >= chat.answer) for at in range(len(chat.ids))] for chat in found],
        })  # fmt: skip
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "model")
        arguments = SFTConfig(**how, max_length=None, completion_only_loss=True)
        ordered(SFTTrainer)(model, arguments, train_dataset=data, processing_class=tokenizer, callbacks=[clock]).train()
    else:
        arguments = TrainingArguments(**how)
        ordered(Trainer)(model, arguments, train_dataset=found, data_collator=padded, callbacks=[clock]).train()
    return {"loss": losses, "seconds": times}


def padded(batch: list[Chat]) -> dict[str, Any]:
    """A batch as transformers takes it."""
    import torch

    width = max(len(chat.ids) for chat in batch)
    ids, labels, mask = (torch.full((len(batch), width), value) for value in (1, -100, 0))
    for row, chat in enumerate(batch):
        there = torch.tensor(chat.ids)
        ids[row, : len(there)], mask[row, : len(there)] = there, 1
        labels[row, chat.answer : len(there)] = there[chat.answer :]
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def grouped(numbers: list[int], found: list[Chat], groups: int) -> list[list[int]]:
    """The conversations of a step by length, in groups of as many."""
    ordered = sorted(numbers, key=lambda number: len(found[number].ids))
    ends = [len(ordered) * number // groups for number in range(groups + 1)]
    assert len(ordered) >= groups, "a step has too few conversations"
    return [ordered[begin:end] for begin, end in itertools.pairwise(ends)]


def child(side: str, folder: Path) -> None:
    """One turn of one side; prints its result as JSON."""
    import resource

    import torch

    torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count() or 1)))
    torch.manual_seed(0)
    plan = json.loads((folder / "plan.json").read_text())
    result = (run_ingot if side.startswith("ingot") else run_peft)(folder, plan, side)
    peak = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if peak is None else peak
    print(json.dumps(result | {"peak_mib": found / 2**20}))


def make(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Model, tokenizer and adapter on disk, and what each step holds."""
    shape = SHAPES[args.shape]
    make_model(folder / "model", shape, args.length)
    make_adapter(folder / "model", folder / "adapter")
    steps, tokens = args.steps, 0
    count = args.rows * args.length * steps // 100
    rows = packed(chats(shape["vocab_size"], count, args.length), args.length)
    documents = []
    for step in range(steps):
        at = range(step * args.rows, (step + 1) * args.rows)
        documents.append([number for row in at for number in rows.documents(row)])
        tokens += int((rows.segments[at.start : at.stop] >= 0).sum())
    plan = {"vocab": shape["vocab_size"], "count": count, "length": args.length, "rows": args.rows, "steps": steps,
            "documents": documents, "micro_batches": args.micro_batches, "tokens_per_step": tokens / steps}  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan))
    return plan


def make_model(path: Path, shape: dict[str, int], length: int) -> None:
    """Qwen2's layout with random weights in bf16, made one tensor at a time, and a tokenizer of words w0, w1 and so
    on."""
    import torch
    from tokenizers import Tokenizer, models

    from ingot.model.config import ModelConfig
    from ingot.model.network import make_network
    from ingot.model.weights import write_tensors

    heads = shape["hidden_size"] // (128 if shape["hidden_size"] > 1000 else 64)
    content = shape | {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_attention_heads": heads,
        "num_key_value_heads": max(2, heads // 4) if heads % 4 == 0 else 2, "max_position_embeddings": length,
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "dtype": "bfloat16", "torch_dtype": "bfloat16",
        "tie_word_embeddings": shape["hidden_size"] < 4096, "eos_token_id": 0, "pad_token_id": 1, "use_cache": False,
    }  # fmt: skip
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(content))
    with torch.device("meta"):
        state = make_network(ModelConfig.read(content, path)).state_dict()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)

    def drawn(name: str, tensor: Any) -> Any:
        if name.endswith("bias") or "norm" in name:
            return torch.full(tensor.shape, float("norm" in name), dtype=torch.bfloat16)
        return (torch.randn(tensor.shape, generator=generator, device=device) * 0.02).to(torch.bfloat16)

    spec = {name: (torch.bfloat16, tuple(tensor.shape)) for name, tensor in state.items()}
    write_tensors(path / "model.safetensors", spec, ((name, drawn(name, tensor)) for name, tensor in state.items()))
    words = {f"w{number}": number for number in range(shape["vocab_size"])}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(path / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "w0", "pad_token": "w1"}
    (path / "tokenizer_config.json").write_text(json.dumps(said))


def make_adapter(model: Path, path: Path) -> None:
    """A fresh LoRA adapter in PEFT's format."""
    import torch

    from ingot.adapt.files import write_adapter
    from ingot.adapt.load import load
    from ingot.adapt.lora import LoRA
    from ingot.adapt.methods import put_on
    from ingot.adapt.targets import ALL_LINEAR, Targets
    from ingot.core.model_dir import ModelDir
    from ingot.core.options import Options

    torch.manual_seed(0)
    found, settings = load(model), LoRA(16, 32.0, 0.0, Targets((ALL_LINEAR,)))
    put_on(found.network, settings, "begun", found.active)
    with ModelDir.create(path, "tune", Options()) as draft:
        draft.prove("largest number of B, which begins at zero", "the adapter", 0.0)
        write_adapter(draft, found.network, "begun", settings, found.model_dir, ())


def turn(side: str, folder: Path, python: str) -> dict[str, Any]:
    command = [sys.executable if side.startswith("ingot") else python, __file__, "--child", side, "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"INGOT_PROGRESS": "0"})
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compared(turns: dict[str, list[dict[str, Any]]], plan: dict[str, Any]) -> dict[str, Any]:
    """Each side in figures, and the first against the others."""
    sides: dict[str, dict[str, Any]] = {}
    for side, found in turns.items():
        steady = [second for one in found for second in one["seconds"][min(WARMUP, len(one["seconds"]) - 1) :]]
        sides[side] = {
            "tokens_per_second": round(plan["tokens_per_step"] / statistics.median(steady), 1),
            "fastest_slowest_step_s": [round(min(steady), 3), round(max(steady), 3)],
            "peak_mib": round(max(one["peak_mib"] for one in found)),
            "losses": [round(loss, 4) for loss in found[0]["loss"]],
        }
    first, *others = sides
    return {
        "sides": sides,
        "memory_of": {side: round(sides[first]["peak_mib"] / sides[side]["peak_mib"], 2) for side in others},
        "ratio_to": {
            side: round(sides[first]["tokens_per_second"] / sides[side]["tokens_per_second"], 2) for side in others
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="0.1b")
    parser.add_argument("--length", type=int, default=1024, help="tokens a row, and a conversation at most")
    parser.add_argument("--rows", type=int, default=2, help="rows a step")
    parser.add_argument("--micro-batches", type=int, default=1, help="of ingot; TRL has one")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=["ingot", "trl-grouped", "trl-grouped-checkpointing"]
    )
    parser.add_argument("--peers", default=sys.executable, help="python of the environment with peft and trl")
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--child", choices=SIDES)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.folder)
        return
    import torch
    from pretrain import hardware

    with tempfile.TemporaryDirectory() as place:
        folder = args.folder or Path(place)
        plan = make(folder, args)
        turns: dict[str, list[dict[str, Any]]] = {side: [] for side in args.sides}
        for number in range(args.turns):
            for side in args.sides:
                found = turn(side, folder, args.peers)
                turns[side].append(found)
                told = [
                    f"{loss:.4f} in {second:.3f} s"
                    for loss, second in zip(found["loss"], found["seconds"], strict=True)
                ]
                print(side, number, f"{found['peak_mib']:.0f} MiB", ", ".join(told), flush=True)
    result = {
        "date": datetime.date.today().isoformat(), "hardware": hardware(), "torch": torch.__version__,
        "shape": args.shape, "rows": args.rows, "length": args.length, "micro_batches": args.micro_batches,
        "tokens_per_step": round(plan["tokens_per_step"]), **compared(turns, plan),
    }  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = args.out or Path(__file__).parent / "results" / f"tune-{args.shape}-{device}-{result['date']}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
