"""What every verb that trains can be told about its loop."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from ingot.core.options import Options, option, required

Switch = Literal["auto", "on", "off"]
Precision = Literal["auto", "fp32", "bf16"]


def switched(found: object) -> object:
    """YAML reads a bare on or off as a truth value, and Python has its own: the word that is meant."""
    return {True: "on", False: "off"}[found] if isinstance(found, bool) else found


class LoopOptions(Options):
    """The optimiser, its schedule, how steps are computed, and what happens when one goes wrong."""

    optimizer: Literal["adamw", "adamw8", "muon"] = option("adamw", "adamw, adamw8 (8-bit states) or muon (matrices)")
    weight_decay: float = option(0.1, "decay of matrices; vectors and embeddings are not decayed", ge=0)
    beta1: float = option(0.9, "decay of AdamW's first moment", ge=0, lt=1)
    beta2: float = option(0.95, "decay of AdamW's second moment", ge=0, lt=1)
    clip: float = option(1.0, "largest norm of the gradient; 0 clips nothing", ge=0)
    schedule: Literal["cosine", "linear", "wsd", "constant"] = option("cosine", "how the learning rate falls")
    warmup: float = option(0.03, "share of the run in which the learning rate rises", ge=0, lt=1)
    decay: float = option(0.2, "share of the run in which it falls (wsd)", gt=0, le=1)
    final: float = option(0.05, "learning rate at the end, as a share of the peak", ge=0, le=1)
    micro_batches: int = option(1, "parts a batch is computed in, to save memory; the result is the same", ge=1)
    checkpointing: Switch = option(
        "auto",
        "keep only each layer's input and compute the rest again; auto: where memory does not suffice",
    )
    offload: Literal["none", "optimizer", "layers"] = option(
        "none", "what lives off the device (of a card: in memory; of a CPU: on disk): optimizer states; layers too"
    )
    freeze: str = option("", "parameters not to train: patterns of names with commas, * for anything")
    recover: Literal["on", "off"] = option("on", "undo and skip steps that go wrong; off: stop at the first")
    compile: Switch = option("auto", "torch.compile: auto compiles when it saves more time than it costs")
    precision: Precision = option("auto", "of matrix products: auto measures whether bf16 is faster here")
    parallel: Literal["auto", "ddp", "fsdp", "tp"] = option(
        "auto", "how several processes share the work: copies (ddp), sharded tensors (fsdp), sliced products (tp)"
    )

    @field_validator("checkpointing", "recover", "compile", mode="before")
    @classmethod
    def _in_words(cls, found: object) -> object:
        return switched(found)

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        """An option that the schedule never reads is refused, not ignored."""
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        if self.decay != defaults["decay"] and self.schedule != "wsd":
            raise ValueError(f"decay acts only with schedule wsd, not {self.schedule}")
        if self.final != defaults["final"] and self.schedule == "constant":
            raise ValueError("final does not act with schedule constant")
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup {self.warmup} and decay {self.decay} together are longer than the run")
        return self


class TrainingOptions(Options):
    """What every verb that trains takes."""

    out: Path = required("where to write")
    epochs: float = option(4.0, "how often the data is read, unless --max-steps says otherwise", gt=0)
    max_steps: int | None = option(None, "steps to train", ge=1)
    max_minutes: float | None = option(None, "end after this long, the schedule fitted to it", gt=0)
    batch_tokens: int | None = option(None, "tokens a step; by default from the model's size", ge=8)
    lr: float | None = option(None, "peak learning rate; by default from the model and method", gt=0)
    seed: int = option(0, "of the weights, the order of the data and dropout", ge=0)
    resume: bool = option(False, "go on with an unfinished run of the same options")
    loop: LoopOptions = option(LoopOptions(), "the rest of the loop")
