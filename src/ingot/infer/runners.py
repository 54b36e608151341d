"""Which runner a model gets: one call a step where its weights are packed and its shape is known, else its modules."""

from __future__ import annotations

import torch

from ingot.adapt.load import LanguageModel
from ingot.core.language import text
from ingot.core.progress import say
from ingot.infer.fused import FusedRunner
from ingot.infer.fused_spec import refusal
from ingot.infer.runner import TorchRunner
from ingot.model.kernels.library import kernels


def make_runner(
    model: LanguageModel, num_blocks: int, num_source_blocks: int, kv: torch.dtype
) -> FusedRunner | TorchRunner:
    """A runner for a model that writes. Says why where packed weights do not run in one call."""
    reason = why_not_fused(model)
    found = kernels() if reason is None else None
    if found is not None:
        return FusedRunner(model, found, num_blocks, kv)
    if reason not in (None, "dense"):  # of missing kernels the user is told by `kernels`
        say("step-by-layer", reason=text(f"step-by-layer-{reason}"))
    return TorchRunner(model, num_blocks, num_source_blocks, kv)


def why_not_fused(model: LanguageModel) -> str | None:
    """Why a model's step is not one call: "dense", "adapters", "family", "prefix", "shape"; None where it is one if
    there are kernels."""
    if model.weights in ("dense", "nf4"):
        return "dense"
    return "adapters" if model.adapters else refusal(model.network)
