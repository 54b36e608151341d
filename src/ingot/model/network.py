"""A network of any kind: decoder, encoder or encoder-decoder."""

from __future__ import annotations

from ingot.data.objectives.options import Form
from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.encoder import Encoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.families import DECODERS, ENCODERS, FAMILIES

Network = Decoder | Encoder | EncoderDecoder


def form_of(config: ModelConfig) -> Form:
    """Which kind a config describes, in the words of the objectives."""
    if config.model_type in DECODERS:
        return "decoder"
    return "encoder" if config.model_type in ENCODERS else "encoder-decoder"


def make_network(config: ModelConfig) -> Network:
    """The network that a config describes, its weights not yet filled."""
    if config.model_type in DECODERS:
        return Decoder(config)
    made = FAMILIES[config.model_type].make(config)
    assert isinstance(made, Encoder | EncoderDecoder)
    return made
