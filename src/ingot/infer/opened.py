"""Opening the model that a verb runs: `--place`, `--weights`, and the line that says what it runs on."""

from __future__ import annotations

from ingot.adapt.load import LanguageModel, load
from ingot.core.progress import say
from ingot.model.kernels.library import kernels


def open_model(reference: str, place: str, weights: str) -> LanguageModel:
    """Load a model for a verb. Raises what `load` does."""
    model = load(reference, place, weights=weights)
    if model.weights != "dense":
        found = kernels()
        say("runs-on", weights=model.weights, kernels=found.name if found else "torch")
    return model
