"""From the tensors of a step to what the operating system or the graphics card is asked for.

On CPU the process is measured: a child process imports what training imports, trains one tiny step and says how large
it became. The heap then costs more than what lives in it, because freed blocks lie between living ones; HEAP says how
much, found by `benchmarks/memory.py`. A card's allocator holds more than is in use, too: CUDA_SLACK.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ingot.train.memory.inference import Use, rehearse_writing
from ingot.train.memory.packed import packing_peak
from ingot.train.memory.rehearsal import Scene, Step, rehearse
from ingot.train.memory.setting import FLOAT, Device, Setting
from ingot.train.method import Method
from ingot.train.offload import PART_NUMBERS

HEAP: dict[Method, float] = {
    "full": 0.22, "lora": 0.7, "rslora": 0.7, "dora": 0.7, "qlora": 0.7, "ia3": 0.45, "prefix": 0.5, "prompt": 0.5,
}  # fmt: skip
"""What the heap takes beside a living byte on CPU: found by `benchmarks/memory.py` with glibc 2.36."""

SAVING_HEAP = 0.17
"""The same where large blocks have pages of their own, because memory is to be saved (`train.machine.arrange_heap`)."""

WRITING_HEAP = 0.05
"""The same while text is written, where blocks of more than 32 MB always have pages of their own."""

CUDA_SLACK = 550e6
"""What the libraries' workspaces take of a card and what its allocator holds without use: the mean of the fifteen runs
of `benchmarks/results/memory-cuda-2026-11-27.json`, in which it was 0.3 to 1.6 GB."""

CUDA_CONTEXT = 500e6
"""Of one process on one card. Assumed: the runs measured what is on top of it."""

PROBE = """
import torch, ingot.train.pretrain, ingot.train.tune
from ingot.train.memory.resident import peak_bytes
layer = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 8))
optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
torch.nn.functional.rms_norm(layer(torch.ones(4, 8)), (8,)).sum().backward()
optimizer.step()
print(peak_bytes())
"""

WRITING_PROBE = """
import sys
import torch, ingot.cli, ingot.infer.generate, ingot.infer.fused
from ingot.model.kernels.library import kernels
from ingot.text.tokenizer import Tokenizer
from ingot.train.memory.resident import peak_bytes
kernels()
torch.ones(512, 512) @ torch.ones(512, 512)
if sys.argv[1:]:
    Tokenizer.open(sys.argv[1])
print(peak_bytes())
"""


@dataclass(frozen=True)
class Needs:
    """Bytes by what they are for; `total` is the peak."""

    weights: float
    gradients: float
    states: float
    activations: float
    heap: float
    process: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.states + self.activations + self.heap + self.process


def process_bytes(device: Device) -> float:
    """What training has before any weight: the interpreter and its libraries, or the card's context."""
    return CUDA_CONTEXT if device == "cuda" else _size_of(PROBE)


def writing_process_bytes(device: Device, model: Path | None = None) -> float:
    """The same of `ingot generate`, with the tokenizer of a model directory that has one."""
    has_one = model is not None and (model / "tokenizer.json").exists()
    return CUDA_CONTEXT if device == "cuda" else _size_of(WRITING_PROBE, *([str(model)] if has_one else []))


def _size_of(probe: str, *arguments: str) -> float:
    command = [sys.executable, "-c", probe, *arguments]
    found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  (our own probe)
    return float(found.stdout.split()[-1])


def training(setting: Setting, process: float, scene: Scene | None = None) -> Needs:
    """The peak of a training step, whichever is higher: computing gradients, or using them."""
    step = off_the_device(setting, rehearse(setting, scene))
    held = step.weights + step.gradients
    rest = max(step.peak - held, step.transient)
    if setting.device == "cuda":
        return Needs(step.weights, step.gradients, step.states, rest, CUDA_SLACK, process)
    saving = setting.checkpointing or setting.offload != "none"
    share = SAVING_HEAP if saving else HEAP[setting.method]
    return Needs(step.weights, step.gradients, step.states, rest, share * (held + step.states + rest), process)


def off_the_device(setting: Setting, step: Step) -> Step:
    """The step without what `--loop.offload` keeps elsewhere. A CPU's files take no memory that it could not have back;
    a card's states visit it a part at a time, when no activations are left."""
    if setting.offload == "none":
        return step
    on_card = setting.device == "cuda"
    left = step.states - (step.layer_states if setting.layers_visit else 0.0)
    transient = step.transient + min(2.0 * FLOAT * PART_NUMBERS, left) if on_card else step.transient
    step = replace(step, states=0.0, transient=transient)
    if setting.offload == "optimizer":
        return step
    gradients = step.gradients - (step.layer_gradients if on_card else 0.0)
    return replace(step, weights=step.weights - step.layers, peak=step.peak - step.layers, gradients=gradients)


def inference(use: Use, process: float) -> Needs:
    """The peak of writing: the cache stands under `states`."""
    found = rehearse_writing(use)
    loose = found.work if use.packer is not None else found.weights + found.cache + found.work
    heap = CUDA_SLACK if use.device == "cuda" else WRITING_HEAP * loose
    return Needs(found.weights, 0.0, found.cache, found.work, heap, process)


def first_start(use: Use, needs: Needs) -> float:
    """The peak where weights are still to be packed: at packing, or later."""
    assert use.packer is not None
    return max(needs.total, needs.process + (1 + WRITING_HEAP) * packing_peak(use.packer))
