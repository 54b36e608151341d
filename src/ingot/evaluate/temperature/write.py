"""A copy of a model directory that states a temperature, with the evidence for it; its weights are the same bytes.

What was measured is the temperature alone. transformers draws by whatever else generation_config.json says, and among
50 tokens where it says nothing; the copy says that nothing else acts, so that it draws what was measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ingot.adapt.generation import DRAWING, NAME
from ingot.adapt.load import load
from ingot.core.files import file_digest
from ingot.core.model_dir import Draft, ModelDir, read_json
from ingot.evaluate.temperature.decide import Decision
from ingot.evaluate.temperature.options import TuneTemperatureOptions

EVIDENCE = "temperature_evidence"


def settings(before: dict[str, Any], temperature: float, evidence: dict[str, Any]) -> dict[str, Any]:
    """generation_config.json with this temperature; 0 is no sampling, where transformers wants no temperature."""
    kept = {key: value for key, value in before.items() if key not in {*DRAWING, "temperature", "do_sample", EVIDENCE}}
    if temperature == 0:
        return kept | {"do_sample": False, EVIDENCE: evidence}
    return kept | {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0, EVIDENCE: evidence}


def write(
    options: TuneTemperatureOptions, out: Path, parent: ModelDir, decision: Decision, evidence: dict[str, Any],
    started: float,
) -> ModelDir:  # fmt: skip
    """Write, re-open and prove it."""
    assert decision.temperature is not None
    with ModelDir.create(out, "tune-temperature", options, started) as draft:
        draft.seed = options.seed
        draft.parents.append(parent)
        draft.read_data(options.task)
        draft.write_json("config.json", parent.config)
        draft.copy_text_files(parent)
        draft.copy_weights(parent)
        before = read_json(parent.path / NAME) if (parent.path / NAME).exists() else {}
        draft.write_json(NAME, settings(before, decision.temperature, evidence))
        draft.numbers |= {"temperature": decision.temperature, **evidence, "replaced": _replaced(before)}
        _prove(draft, parent, decision.temperature)
    return ModelDir.open(out)


def _replaced(before: dict[str, Any]) -> dict[str, Any]:
    """How tokens were to be drawn."""
    return {key: before[key] for key in ("do_sample", "temperature", *DRAWING) if before.get(key) is not None}


def _prove(draft: Draft, parent: ModelDir, temperature: float) -> None:
    model = load(draft.path)
    found = model.generation
    difference = abs((-1.0 if found.temperature is None else found.temperature) - temperature)
    draft.prove("temperature read back", "the re-opened generation_config.json with the chosen temperature", difference)
    draft.prove("other ways of drawing", "the re-opened generation_config.json", len(found.undrawn))
    files = parent.weight_files()
    changed = sum(file_digest(file) != file_digest(draft.path / file.name) for file in files)
    draft.prove("files of weights that changed", f"{len(files)} files", changed)
