"""The same base and adapter in PEFT and here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel, load
from ingot.adapt.methods import tensor_names
from ingot.model.encoder_decoder import EncoderDecoder

IDS = torch.randint(4, 320, (2, 20), generator=torch.Generator().manual_seed(1))

KINDS = {
    "bert": "AutoModelForMaskedLM",
    "roberta": "AutoModelForMaskedLM",
    "distilbert": "AutoModelForMaskedLM",
    "modernbert": "AutoModelForMaskedLM",
    "t5": "AutoModelForSeq2SeqLM",
    "bart": "AutoModelForSeq2SeqLM",
}


def transformers_model(base: Path) -> Any:
    import transformers

    kind = json.loads((base / "config.json").read_text())["model_type"]
    auto = getattr(transformers, KINDS.get(kind, "AutoModelForCausalLM"))
    return auto.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def peer_logits(peer: Any) -> Tensor:
    """Logits of IDS; those of tokens that were put in front are cut off."""
    more = {"decoder_input_ids": IDS} if peer.config.is_encoder_decoder else {}
    return peer(input_ids=IDS, **more).logits[:, -IDS.shape[1] :]


def our_logits(model: LanguageModel) -> Tensor:
    return model.logits(IDS, IDS if isinstance(model.network, EncoderDecoder) else None)


@torch.no_grad()
def shake(parameters: dict[str, Tensor], seed: int = 0) -> None:
    """Numbers that are far from where an adapter begins, so that every part of it matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in parameters.items():
        noise = torch.randn(parameter.shape, generator=generator)
        near_one = "ia3_l" in name or "magnitude" in name or "norm" in name
        parameter.copy_(parameter + 0.3 * noise.abs() if near_one else 0.2 * noise)


def shaken(model: LanguageModel, adapter: str, seed: int = 0) -> None:
    state = model.network.state_dict()
    shake({name: state[path] for name, path in tensor_names(model.network, adapter).items()}, seed)


def difference(base: Path, adapter: Path, peer: Any) -> float:
    """Largest difference of logits, after seeing that the adapter changes them."""
    expected, plain = peer_logits(peer), our_logits(load(base))
    found = our_logits(load(f"{base}+{adapter}"))
    assert (expected - plain).abs().max() > 1e-2, "the adapter does nothing"
    return float((found - expected).abs().max())
