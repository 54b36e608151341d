"""What a plan is about: a model directory, a preset, or a config.json alone. No weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.core.errors import fail, nearest
from ingot.core.model_dir import ModelDir, read_json, split_reference
from ingot.model.config import ModelConfig
from ingot.model.presets import PRESETS, Preset
from ingot.model.quantized import Quantization


@dataclass(frozen=True)
class Subject:
    """A config with its name and content, the preset it is, the directory it lies in and the adapters that came with
    it."""

    name: str
    config: ModelConfig
    content: dict[str, Any]
    preset: Preset | None = None
    base: ModelDir | None = None
    adapters: tuple[ModelDir, ...] = ()

    @property
    def path(self) -> Path | None:
        return self.base.path if self.base else None

    @property
    def can_pack(self) -> bool:
        """Whether its weights can be packed; bitsandbytes' cannot."""
        found = Quantization.of(self.content, Path(self.name))
        return found is None or not found.is_nf4

    @property
    def adapter_size(self) -> int:
        """Numbers in the adapters."""
        entries = [entry for adapter in self.adapters for entry in adapter.tensors.values()]
        total = 0
        for entry in entries:
            size = 1
            for extent in entry.shape:
                size *= extent
            total += size
        return total


def choose(model: str | None, preset: str | None, config: Path | None) -> Subject:
    """The one that was named. Raises `plan-name-one`, `unknown-preset`, `no-model-type`, and what a config lacks."""
    named = {"MODEL": model, "--preset": preset, "--config": config}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise fail("plan-name-one", found=", ".join(given) or "-")
    if preset is not None:
        return _preset(preset)
    if config is not None:
        name = config.parent.resolve().name if config.name == "config.json" else config.stem
        content = _read(config)
        return Subject(name, ModelConfig.read(content, config), content)
    assert model is not None
    return _model(model)


def _preset(name: str) -> Subject:
    if name not in PRESETS:
        raise fail("unknown-preset", found=name, nearest=nearest(name, PRESETS))
    preset = PRESETS[name]
    return Subject(name, ModelConfig.read(preset.config, Path(name)), preset.config, preset)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(path)
    if not isinstance(content.get("model_type"), str):
        raise fail("no-model-type", path=path)
    return content


def _model(reference: str) -> Subject:
    base_path, adapter_paths = split_reference(reference)
    base = ModelDir.open(base_path)
    if base.kind != "model":
        raise fail("not-a-model", path=base_path, kind=base.kind)
    adapters = tuple(map(ModelDir.open, adapter_paths))
    for adapter in adapters:
        if adapter.kind != "adapter":
            raise fail("not-an-adapter", path=adapter.path, kind=adapter.kind)
    name = "+".join(part.name for part in (base, *adapters))
    config = ModelConfig.read(base.config, base.path / "config.json")
    return Subject(name, config, base.config, None, base, adapters)
