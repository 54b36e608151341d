"""What every verb that tunes a model has in common: how it begins, and what it writes in the end."""

from __future__ import annotations

from typing import Protocol

import torch

from ingot.adapt.files import write_adapter
from ingot.adapt.load import LanguageModel, load
from ingot.adapt.methods import Settings
from ingot.core.model_dir import Draft
from ingot.model.config import PREFIX_LM, Json
from ingot.model.nf4_linear import is_in_nf4
from ingot.train.method import TUNED, LoRAOptions, Method, PromptOptions, put_on_or_free, settings_of
from ingot.train.write import prove, write_model


class Tuning(Protocol):
    """Options that say what is tuned, and by which method."""

    @property
    def model(self) -> str: ...
    @property
    def method(self) -> Method: ...
    @property
    def rank(self) -> int: ...
    @property
    def lora(self) -> LoRAOptions: ...
    @property
    def prompt(self) -> PromptOptions: ...
    @property
    def seed(self) -> int: ...


def begin_tuning(options: Tuning, held: torch.dtype) -> tuple[LanguageModel, Settings | None]:
    """The model before it is tuned, and the adapter that lies on it; None when every weight trains."""
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
