"""What a new model begins with: logits that neither collapse nor run wild, for every family that can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from ingot.model.config import ModelConfig
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.families.t5 import T5
from ingot.model.network import Network
from ingot.text.tokenizer import Tokenizer
from ingot.train import dial
from ingot.train.initial import initialise
from tiny import write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.open(write_tokenizer(tmp_path_factory.mktemp("initial") / "tok"))


def made(family: dial.Family, tokenizer: Tokenizer) -> Network:
    return initialise(ModelConfig.read(dial.config(family, 4, 64, tokenizer), Path("config.json")), seed=1).eval()


@pytest.mark.parametrize("family", get_args(dial.Family))
@torch.inference_mode()
def test_a_new_models_logits_differ_a_little(family: dial.Family, tokenizer: Tokenizer) -> None:
    network = made(family, tokenizer)
    ids = torch.randint(0, tokenizer.vocab_size, (4, 64), generator=torch.Generator().manual_seed(0))
    source = {"source_ids_BS": ids} if isinstance(network, EncoderDecoder) else {}
    logits = network.head(network(ids, **source))
    assert 0.1 < float(logits.std(-1).mean()) < 2


@torch.no_grad()
def test_t5_begins_as_its_paper_does(tokenizer: Tokenizer) -> None:
    """Its output is divided by sqrt(width): the embedding begins at 1, the biases of distances do not."""
    network = made("t5", tokenizer)
    assert isinstance(network, T5)
    assert float(network.embedding.weight.std()) == pytest.approx(1.0, rel=0.02)
    bias = next(value for name, value in network.named_parameters() if "relative_attention_bias" in name)
    assert float(bias.std()) == pytest.approx(0.02, rel=0.2)
    assert float(made("gpt2", tokenizer).embedding.weight.std()) == pytest.approx(0.02, rel=0.02)
