"""What every verb that tunes a model has in common: how it begins, and what it writes in the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import model_validator

from ingot.adapt.files import write_adapter
from ingot.adapt.load import LanguageModel, load, open_reference
from ingot.adapt.methods import Settings
from ingot.core.model_dir import Draft
from ingot.core.options import argument, option, required
from ingot.model.config import PREFIX_LM, Json, ModelConfig
from ingot.model.nf4_linear import is_in_nf4
from ingot.train.checkpoint import Place, identity
from ingot.train.distributed.world import World
from ingot.train.forgetting.options import ForgettingOptions
from ingot.train.method import (
    RANK,
    TUNED,
    LoRAOptions,
    Method,
    PromptOptions,
    held_in,
    put_on_or_free,
    rate_of,
    refuse_idle,
    refuse_in_nf4,
    settings_of,
)
from ingot.train.optimizers.groups import freeze
from ingot.train.plan import precision_of
from ingot.train.settings import TrainingOptions
from ingot.train.write import prove, write_model


class TuningOptions(TrainingOptions):
    """What every verb takes that tunes a model by a method."""

    model: str = argument("model to tune: DIR, or DIR+ADAPTER")
    data: Path = required("what it is tuned on")
    method: Method = option("lora", "what trains: an adapter of this kind, or every weight (full)")
    rank: int = option(RANK, "rank of the update (lora, rslora, dora, qlora)", ge=1)
    lora: LoRAOptions = option(LoRAOptions(), "the rest of the update")
    prompt: PromptOptions = option(PromptOptions(), "what is put in front of every text (prefix, prompt)")
    forgetting: ForgettingOptions = option(ForgettingOptions(), "what forgetting is measured on")

    @model_validator(mode="after")
    def _every_option_of_the_method_acts(self) -> Self:
        """What belongs to another method is refused."""
        refuse_idle(self.method, self.rank, self.lora, self.prompt)
        refuse_in_nf4(self.method, self.loop)
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        base, adapters = open_reference(self.model)
        return identity(self, data=self.data, model=[part.path for part in (base, *adapters)])

    def usual_rate(self, width: int) -> float:
        """The method's own learning rate for a model of this width."""
        return rate_of(self.method, width, self.prompt.projection is not None)


@dataclass(frozen=True)
class Begun:
    """A model with what is to be trained on it (`settings` None: every weight), the numbers of its products and those
    that it is held in."""

    model: LanguageModel
    settings: Settings | None
    precision: torch.dtype
    held: torch.dtype


def begin_tuning(options: TuningOptions, place: Place, world: World) -> Begun:
    """The model before it is tuned, and the adapter that lies on it."""
    base, _ = open_reference(options.model)
    config = ModelConfig.read(base.config, base.path / "config.json")
    precision = precision_of(options, config.hidden_size, place, world)
    held = held_in(base, options.method, options.lora, precision)
    model, settings = fresh(options, held)
    freeze(model.network, options.loop.freeze)
    return Begun(model, settings, precision, held)


def fresh(options: TuningOptions, held: torch.dtype) -> tuple[LanguageModel, Settings | None]:
    """The same, held in given numbers, nothing of it frozen by name."""
    model = load(options.model, dtype=held, nf4=options.method == "qlora")
    torch.manual_seed(options.seed)
    settings = None
    if options.method != "full":
        settings = settings_of(options.method, options.rank, options.lora, options.prompt, model.config)
    put_on_or_free(model, settings)
    return model, settings


def write_tuned(
    draft: Draft, model: LanguageModel, settings: Settings | None, changes: Json, held: torch.dtype
) -> None:
    """The adapter or the model, re-opened and compared with what is in memory. `changes`: what of the config is not
    the parent's."""
    if settings is None:
        draft.copy_text_files(model.model_dir)
        write_model(draft, model.network, model.model_dir.config | changes, model.model_dir)
        prove(draft, model.network, load(draft.path), "the re-opened directory with the model in memory")
        return
    write_adapter(draft, model.network, TUNED, settings, model.model_dir, model.adapter_dirs)
    if changes.get(PREFIX_LM) and not model.config.prefix_lm:
        draft.numbers[PREFIX_LM] = True
    reopened = load(f"{model.reference}+{draft.path}", dtype=held, nf4=is_in_nf4(model.network))
    prove(draft, model.network, reopened, "the base with the re-opened adapter, with the model in memory")
