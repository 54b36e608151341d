"""Logits equal transformers' on tiny random models of every family, padded on either side, cached or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.infer.engine import Engine
from ingot.infer.sampling import Sampling
from ingot.model.cache import HeldRows, KVCache
from ingot.model.weights import read_tensors
from tiny import BLOOM, CONFIGS, GEMMA3, GPT2, GPT_NEOX, LLAMA, PHI3, QWEN3, QWEN3_MOE, write_model

LONG = {
    "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [1.5, 4.0]},
    "max_position_embeddings": 256,
}
CASES: dict[str, dict[str, Any]] = CONFIGS | {
    "llama-tied-biased": LLAMA | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    "llama-mha": LLAMA | {"num_key_value_heads": 4},
    "llama-linear": LLAMA | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama-llama3-v4": LLAMA
    | {
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "llama-llama3-v5": {key: value for key, value in LLAMA.items() if key != "rope_theta"}
    | {
        "rope_parameters": {
            "rope_theta": 5000.0,
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "qwen3-window": QWEN3
    | {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
    "llama-dynamic": LLAMA | {"max_position_embeddings": 16, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
    "llama-yarn": LLAMA
    | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}},
    "llama-yarn-all": LLAMA
    | {
        "rope_theta": 500.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 4.0,
            "beta_slow": 1.0,
            "mscale": 0.7,
            "mscale_all_dim": 1.2,
        },
    },
    "phi3-long": PHI3 | LONG | {"original_max_position_embeddings": 16},
    "phi3-short": PHI3 | LONG | {"original_max_position_embeddings": 64},
    "phi3-window": PHI3 | {"sliding_window": 6},
    "gemma3-v5": {key: value for key, value in GEMMA3.items() if "rope" not in key}
    | {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 70000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 3000.0},
        }
    },
    "neox-serial": GPT_NEOX | {"use_parallel_residual": False, "attention_bias": False},
    "neox-v5": {key: value for key, value in GPT_NEOX.items() if "rot" not in key}
    | {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0, "partial_rotary_factor": 0.25}},
    "bloom-post": BLOOM | {"apply_residual_connection_post_layernorm": True},
    "qwen3-moe-raw": QWEN3_MOE | {"norm_topk_prob": False, "mlp_only_layers": []},
    "gpt2-untied": GPT2 | {"tie_word_embeddings": False},
}


def peer(path: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", CASES[name])
    ids = torch.randint(0, 320, (3, 40), generator=torch.Generator().manual_seed(1))
    difference = (load(path).logits(ids) - peer(path)(input_ids=ids).logits).abs().max()
    assert difference <= 1e-4


@pytest.mark.peers
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
@torch.no_grad()
def test_padding_on_either_side(name: str, side: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", CASES[name])
    ids = torch.randint(0, 320, (2, 20), generator=torch.Generator().manual_seed(2))
    keep = torch.ones_like(ids)
    keep[0, slice(0, 7) if side == "left" else slice(13, 20)] = 0
    positions = (keep.cumsum(-1) - 1).clamp(min=0)
    expected = peer(path)(input_ids=ids, attention_mask=keep, position_ids=positions).logits
    model = load(path)
    found = model.decoder.head(model.decoder(ids, positions, segments_BT=keep - 1))
    assert (found - expected)[keep.bool()].abs().max() <= 1e-4


@pytest.mark.peers
@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_writes_what_we_write(name: str, tmp_path: Path) -> None:
    """Read by transformers and written again: the same names, shapes and bytes, and a config that we read alike."""
    path = write_model(tmp_path / "m", CASES[name])
    peer(path).save_pretrained(tmp_path / "again")
    ours, theirs = (dict(read_tensors(ModelDir.open(p))) for p in (path, tmp_path / "again"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ids = torch.randint(0, 320, (2, 24), generator=torch.Generator().manual_seed(6))
    assert torch.equal(load(path).logits(ids), load(tmp_path / "again").logits(ids))


@torch.no_grad()
@pytest.mark.parametrize("length", [12, 40])
def test_longrope_is_the_same_read_in_parts(length: int, tmp_path: Path) -> None:
    """A prompt beyond the original window has the long factors from its first token; a shorter one ends there."""
    model = load(write_model(tmp_path / "m", CASES["phi3-long"]))
    prompt = torch.randint(0, 320, (length,), generator=torch.Generator().manual_seed(7)).tolist()
    engine = Engine(model, num_slots=2, prefill_tokens=8)
    other = engine.submit([5, 6, 7], Sampling(temperature=0, max_tokens=30))
    found = engine.submit(prompt, Sampling(temperature=0, max_tokens=20))
    while engine.has_work:
        engine.step()
    assert len(found.tokens) == (20 if length > 16 else 16 - length)
    assert (other.finish_reason, len(other.tokens)) == ("length", 13)
    for sequence in (found, other):
        text = [*sequence.prompt_ids]
        for token in sequence.tokens:
            assert int(model.logits([text])[0, -1].argmax()) == token
            text.append(token)


def test_longrope_has_no_room_behind_a_prompt_that_ends_where_positions_change(tmp_path: Path) -> None:
    engine = Engine(load(write_model(tmp_path / "m", CASES["phi3-long"])))
    with pytest.raises(IngotError) as error:
        engine.submit([5] * 16)
    assert (error.value.code, error.value.details) == ("prompt-too-long", {"found": 16, "limit": 16})


def gradient_of(name: str, gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    """A parameter's gradient in transformers, which stacks the experts of a layer."""
    name = name.replace("block_sparse_moe", "mlp").replace("embed_out", "lm_head")
    if ".experts." not in name:
        return gradients[name]
    layer, _, rest = name.partition(".experts.")
    number, which = rest.split(".")[:2]
    if which in {"w2", "down_proj"}:
        return gradients[f"{layer}.experts.down_proj"][int(number)]
    gate, up = gradients[f"{layer}.experts.gate_up_proj"][int(number)].chunk(2)
    return gate if which in {"w1", "gate_proj"} else up


@pytest.mark.peers
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_equal_transformers(name: str, tmp_path: Path) -> None:
    """Token 0 stays out: where it is the padding, transformers gives its embedding no gradient."""
    path = write_model(tmp_path / "m", CASES[name])
    ids = torch.randint(1, 320, (2, 24), generator=torch.Generator().manual_seed(3))
    other, own = peer(path), load(path).decoder.requires_grad_(True)
    other(input_ids=ids).logits.square().mean().backward()
    own.head(own(ids)).square().mean().backward()
    gradients = {parameter_name: parameter.grad for parameter_name, parameter in other.named_parameters()}
    for parameter_name, parameter in own.named_parameters():
        expected = gradient_of(parameter_name, gradients)
        assert (parameter.grad - expected).norm() <= 1e-4 * expected.norm(), parameter_name


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_cached_equals_whole(name: str, tmp_path: Path) -> None:
    """Three sequences of different lengths, read in chunks and then token by token, in scattered places."""
    model = load(write_model(tmp_path / "m", CASES[name]))
    ids = torch.randint(0, 320, (3, 24), generator=torch.Generator().manual_seed(4))
    whole = model.decoder(ids)
    cache = KVCache(model.config, 100, model.device, torch.float32)
    places = torch.randperm(100, generator=torch.Generator().manual_seed(5))[:96].view(3, 32)
    starts = [5, 9, 2]
    for row, start in enumerate(starts):
        for begin, end in ((0, start - 1), (start - 1, start)):
            positions = torch.arange(begin, end)[None]
            rows = HeldRows.at(cache, places[row : row + 1], positions)
            part = model.decoder(ids[row : row + 1, begin:end], positions, rows=rows)
            assert torch.allclose(part[0], whole[row, begin:end], atol=1e-5)
    for step in range(10):
        positions = torch.tensor([[start + step] for start in starts])
        part = model.decoder(ids.gather(1, positions), positions, rows=HeldRows.at(cache, places, positions))
        for row, start in enumerate(starts):
            assert torch.allclose(part[row, 0], whole[row, start + step], atol=1e-5)


@torch.no_grad()
def test_packed_documents_do_not_see_each_other(tmp_path: Path) -> None:
    """Packed equals alone, and changing one document leaves its neighbour's states bit for bit."""
    decoder = load(write_model(tmp_path / "m")).decoder
    ids = torch.randint(0, 320, (1, 20), generator=torch.Generator().manual_seed(5))
    segments = torch.tensor([[0] * 8 + [1] * 12])
    positions = torch.cat((torch.arange(8), torch.arange(12)))[None]
    packed = decoder(ids, positions, segments)
    assert torch.allclose(packed[:, :8], decoder(ids[:, :8]), atol=1e-5)
    assert torch.allclose(packed[:, 8:], decoder(ids[:, 8:]), atol=1e-5)
    changed = ids.clone()
    changed[:, :8] = (changed[:, :8] + 1) % 320
    assert torch.equal(decoder(changed, positions, segments)[:, 8:], packed[:, 8:])
