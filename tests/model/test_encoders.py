"""Encoders and encoder-decoders equal transformers': logits and gradients, with padding, packed or alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.model.weights import read_tensors
from tiny import BERT, ENCODER_DECODERS, ENCODERS, LLAMA, MODERNBERT, T5, make_random_network, write_model

OTHERS: dict[str, dict[str, Any]] = ENCODERS | {
    "modernbert-v5": {key: value for key, value in MODERNBERT.items() if "rope" not in key and "every" not in key}
    | {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 900.0},
            "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0},
        },
    },
    "modernbert-biased": MODERNBERT
    | {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True},
}


def random_ids(rows: int, length: int, seed: int) -> torch.Tensor:
    """No token below 4: paddings, begins and ends of the tiny models."""
    return torch.randint(4, 320, (rows, length), generator=torch.Generator().manual_seed(seed))


def peer(path: Path) -> Any:
    from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    pair = "is_encoder_decoder" in (path / "config.json").read_text()
    kind = AutoModelForSeq2SeqLM if pair else AutoModelForMaskedLM
    return kind.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.mark.peers
@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_an_encoder_equals_transformers(name: str, tmp_path: Path) -> None:
    """Also where the second row ends early."""
    path = write_model(tmp_path / "m", OTHERS[name])
    ids, keep = random_ids(2, 30, 1), torch.ones(2, 30, dtype=torch.long)
    model, other = load(path), peer(path)
    assert (model.logits(ids) - other(input_ids=ids).logits).abs().max() <= 1e-4
    keep[1, 17:] = 0
    ids[1, 17:] = OTHERS[name]["pad_token_id"]
    found = model.network.head(model.network(ids, segments_BT=keep - 1))
    expected = other(input_ids=ids, attention_mask=keep).logits
    assert (found - expected)[keep.bool()].abs().max() <= 1e-4


@pytest.mark.peers
@torch.no_grad()
def test_sentence_types(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", BERT)
    ids, types = random_ids(2, 12, 2), torch.tensor([[0] * 5 + [1] * 7, [0] * 9 + [1] * 3])
    model = load(path)
    found = model.network.head(model.network(ids, types_BT=types))
    assert (found - peer(path)(input_ids=ids, token_type_ids=types).logits).abs().max() <= 1e-4


@pytest.mark.peers
@pytest.mark.parametrize("name", ENCODER_DECODERS)
@torch.no_grad()
def test_an_encoder_decoder_equals_transformers(name: str, tmp_path: Path) -> None:
    """Also where the second row's source ends early."""
    path = write_model(tmp_path / "m", ENCODER_DECODERS[name])
    source, target = random_ids(2, 23, 3), random_ids(2, 17, 4)
    model, other = load(path), peer(path)
    expected = other(input_ids=source, decoder_input_ids=target).logits
    assert (model.logits(target, source) - expected).abs().max() <= 1e-4
    keep = torch.ones_like(source)
    keep[1, 9:] = 0
    expected = other(input_ids=source, attention_mask=keep, decoder_input_ids=target).logits
    found = model.network.head(model.network(target, source_ids_BS=source, source_segments_BS=keep - 1))
    assert (found - expected).abs().max() <= 1e-4


@pytest.mark.peers
@pytest.mark.parametrize("name", ENCODERS | ENCODER_DECODERS)
def test_gradients_equal_transformers(name: str, tmp_path: Path) -> None:
    config = (ENCODERS | ENCODER_DECODERS)[name]
    path = write_model(tmp_path / "m", config)
    source, ids = random_ids(2, 14, 5), random_ids(2, 11, 6)
    other, own = peer(path), load(path).network.requires_grad_(True)
    if name in ENCODER_DECODERS:
        other(input_ids=source, decoder_input_ids=ids).logits.square().mean().backward()
        own.head(own(ids, source_ids_BS=source)).square().mean().backward()
    else:
        other(input_ids=ids).logits.square().mean().backward()
        own.head(own(ids)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in other.named_parameters()}
    for parameter_name, parameter in own.named_parameters():
        expected, found = gradients[parameter_name], parameter.grad
        assert expected is not None
        assert found is not None
        if expected.norm() < 1e-8:  # a key's bias cancels in the softmax: only rounding is left of its gradient
            assert "k" in parameter_name.split(".")[-2]
            assert found.norm() < 1e-8
        else:
            assert (found - expected).norm() <= 1e-4 * expected.norm(), parameter_name


@pytest.mark.peers
@pytest.mark.parametrize("name", ENCODERS | ENCODER_DECODERS)
def test_transformers_writes_what_we_write(name: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", (ENCODERS | ENCODER_DECODERS)[name])
    peer(path).save_pretrained(tmp_path / "again")
    ours, theirs = (dict(read_tensors(ModelDir.open(place))) for place in (path, tmp_path / "again"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    ids, source = random_ids(2, 9, 10), random_ids(2, 12, 11) if name in ENCODER_DECODERS else None
    assert torch.equal(load(path).logits(ids, source), load(tmp_path / "again").logits(ids, source))


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_packed_texts_do_not_see_each_other(name: str, tmp_path: Path) -> None:
    network = load(write_model(tmp_path / "m", ENCODERS[name])).network
    ids, segments = random_ids(1, 20, 7), torch.tensor([[0] * 8 + [1] * 12])
    positions = torch.cat((torch.arange(8), torch.arange(12)))[None]
    packed = network(ids, positions, segments)
    assert torch.allclose(packed[:, :8], network(ids[:, :8]), atol=1e-5)
    assert torch.allclose(packed[:, 8:], network(ids[:, 8:]), atol=1e-5)
    changed = ids.clone()
    changed[:, :8] = 4 + (changed[:, :8] - 3) % 316
    assert torch.equal(network(changed, positions, segments)[:, 8:], packed[:, 8:])


@pytest.mark.parametrize("name", ENCODER_DECODERS)
@torch.no_grad()
def test_packed_pairs_do_not_see_each_other(name: str, tmp_path: Path) -> None:
    """Two sources and two targets in a row each, with padding behind both."""
    network = load(write_model(tmp_path / "m", ENCODER_DECODERS[name])).network
    source, target = random_ids(1, 20, 8), random_ids(1, 14, 9)
    source_segments = torch.tensor([[0] * 7 + [1] * 10 + [-1] * 3])
    segments = torch.tensor([[0] * 5 + [1] * 6 + [-1] * 3])
    positions = torch.cat((torch.arange(5), torch.arange(6), torch.arange(3)))[None]
    packed = network(target, positions, segments, source, source_segments)
    assert torch.allclose(packed[:, :5], network(target[:, :5], source_ids_BS=source[:, :7]), atol=1e-5)
    assert torch.allclose(packed[:, 5:11], network(target[:, 5:11], source_ids_BS=source[:, 7:17]), atol=1e-5)
    assert packed.isfinite().all()


def test_what_does_not_write_is_refused(tmp_path: Path) -> None:
    import ingot

    path = write_model(tmp_path / "m", BERT)
    with pytest.raises(IngotError) as error:
        ingot.generate(str(path), prompt="a")
    assert error.value.code == "does-not-write"
    with pytest.raises(IngotError) as error:
        load(path).decoder  # noqa: B018
    assert error.value.code == "not-a-decoder"
    with pytest.raises(IngotError) as error:
        load(write_model(tmp_path / "t5", T5)).logits([[4, 5]])
    assert error.value.code == "no-source"


@pytest.mark.parametrize(
    ("base", "change", "code"),
    [
        (BERT, {"position_embedding_type": "relative_key"}, "config-not-supported"),
        (BERT, {"is_decoder": True}, "config-not-supported"),
        (T5, {"feed_forward_proj": "gated-mish"}, "config-not-supported"),
        (ENCODER_DECODERS["bart"], {"encoder_layerdrop": 0.1}, "config-not-supported"),
        (ENCODER_DECODERS["marian"], {"share_encoder_decoder_embeddings": False}, "config-not-supported"),
        (LLAMA, {"model_type": "t6"}, "unknown-family"),
    ],
)
def test_configs_we_do_not_compute(base: dict[str, Any], change: dict[str, Any], code: str, tmp_path: Path) -> None:
    with pytest.raises(IngotError) as error:
        write_model(tmp_path / "m", base | change)
    assert error.value.code == code


@torch.no_grad()
def test_the_layers_of_a_real_bert_give_its_published_logits(real_data: Path) -> None:
    """BERT-tiny tuned on SST-2, from an embedded sentence to the classifier."""
    folder = real_data / "01_models" / "bert_tiny_sst2_layers"
    if not folder.is_dir():
        pytest.skip("no BERT-tiny in the real data")
    weights, case = (np.load(folder / f"{name}.npz") for name in ("bert_tiny_sst2_encoder", "sample_case"))
    config = BERT | {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2}
    network = make_random_network(config)
    for number, block in enumerate(network.blocks):
        prefix = f"bert.encoder.layer.{number}."
        own = {name.removeprefix(prefix): weights[name] for name in weights.files if name.startswith(prefix)}
        block.load_state_dict({name: torch.from_numpy(value) for name, value in own.items()}, strict=True)
    x = torch.from_numpy(case["embedding_output"]).float()[None]
    for block in network.blocks:
        x = block(x, None, None, None)
    head = {name: torch.from_numpy(weights[name]) for name in weights.files if "layer" not in name}
    pooled = torch.tanh(F.linear(x[0, 0], head["bert.pooler.dense.weight"], head["bert.pooler.dense.bias"]))
    logits = F.linear(pooled, head["classifier.weight"], head["classifier.bias"])
    assert (logits - torch.from_numpy(case["expected_logits"])).abs().max() < 1e-4
