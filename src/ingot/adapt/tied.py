"""An output head that is the embedding, and adapters that change one of the two.

PEFT leaves the head as it was when an adapter changes the embedding, until the adapter is merged: then both change, and
the merged model is another (transformers#45127). Here the two are parted as soon as an adapter touches either: the
head becomes a layer of its own that still reads the old weight, and what is merged is written untied.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ingot.core.errors import fail
from ingot.model.decoder import Decoder


def untie(network: nn.Module, names: list[str]) -> None:
    """Part head and embedding where one of these modules is either. Raises `adapter-tied` for kinds that cannot."""
    embedding = {name for name, module in network.named_modules() if module is getattr(network, "embedding", None)}
    if isinstance(network, Decoder):
        head = network.family.head
        if network.config.tie_embeddings and (embedding | {head}) & set(names):
            weight = network.embedding.weight
            with torch.device("meta"):
                layer = nn.Linear(network.config.hidden_size, network.config.vocab_size, bias=False)
            layer.weight = weight
            network.config = replace(network.config, tie_embeddings=False)
            setattr(network, head, layer)
        return
    if embedding & set(names):
        raise fail("adapter-tied", layer=sorted(embedding)[0], family=network.config.model_type)  # type: ignore[union-attr]
