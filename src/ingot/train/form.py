"""Which kind of network this is, in the words of the objectives, and in which directions it reads."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ingot.core.errors import fail
from ingot.data.objectives.objective import Objective
from ingot.data.objectives.options import Form
from ingot.model.config import PREFIX_LM, Json, ModelConfig
from ingot.model.decoder import Decoder


def form_of(network: nn.Module) -> Form:
    """ "decoder", "encoder" or "encoder-decoder"."""
    if isinstance(network, Decoder):
        return "decoder"
    return "encoder-decoder" if hasattr(network, "encode") else "encoder"


def marked(config: Json, objective: Objective) -> Json:
    """A config.json that says so where the model learns to read a prompt in both directions."""
    return config | {PREFIX_LM: True} if objective.both_ways else config


def check_directions(config: ModelConfig, path: Path, objective: Objective) -> None:
    """Raise `reads-both-ways` where a model that reads prompts so would be taught to read from left to right only: used
    in one way and trained in another, it would be silently worse."""
    if config.prefix_lm and not objective.both_ways:
        raise fail("reads-both-ways", path=path, objective=objective.name)
