"""In which directions a model reads its prompts, as training writes it down and keeps to it."""

from __future__ import annotations

from pathlib import Path

from ingot.core.errors import fail
from ingot.data.objectives.objective import Objective
from ingot.model.config import PREFIX_LM, Json, ModelConfig


def marked(config: Json, objective: Objective) -> Json:
    """A config.json that says so where the model learns to read a prompt in both directions."""
    return config | {PREFIX_LM: True} if objective.both_ways else config


def check_directions(config: ModelConfig, path: Path, objective: Objective) -> None:
    """Raise `reads-both-ways` where a model that reads prompts so would be taught to read from left to right only: used
    in one way and trained in another, it would be silently worse."""
    if config.prefix_lm and not objective.both_ways:
        raise fail("reads-both-ways", path=path, objective=objective.name)
