"""What an adapter's files may say, and what is refused, by name; embeddings that are the head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapting import tuned, write
from peft_pairs import IDS

import ingot
from ingot.adapt.load import load
from ingot.adapt.lora import LoRA
from ingot.adapt.targets import Targets, candidates
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.model.weights import read_tensors, spec_of, write_tensors
from tiny import BERT, DISTILBERT, GPT2, LLAMA, MIXTRAL, QWEN2, T5, make_decoder, write_model, write_tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", LLAMA, tokenizer=write_tokenizer(tmp_path / "tok"))


def code_of(reference: str) -> tuple[str, str]:
    with pytest.raises(IngotError) as caught:
        load(reference)
    return caught.value.code, str(caught.value)


def adapter_config(adapter: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text())
    return content


def change(adapter: Path, **keys: Any) -> Path:
    (adapter / "adapter_config.json").write_text(json.dumps(adapter_config(adapter) | keys))
    return adapter


def rename(adapter: Path, old: str, new: str | None) -> None:
    """Give tensors other names, or (None) drop them."""
    tensors = dict(read_tensors(ModelDir.open(adapter)))
    kept = {name.replace(old, new or ""): tensor for name, tensor in tensors.items() if new or old not in name}
    write_tensors(adapter / "adapter_model.safetensors", spec_of(kept), kept.items())


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [({"bias": "all"}, "adapter-not-supported", "bias"),
     ({"lora_bias": True}, "adapter-not-supported", "lora_bias"),
     ({"init_lora_weights": "pissa"}, "adapter-not-supported", "pissa"),
     ({"trainable_token_indices": [3]}, "adapter-not-supported", "trainable_token_indices"),
     ({"layer_replication": [[0, 1]]}, "adapter-not-supported", "layer_replication"),
     ({"from_the_future": 3}, "adapter-not-supported", "from_the_future"),
     ({"task_type": "SEQ_CLS"}, "adapter-not-supported", "SEQ_CLS"),
     ({"peft_type": "LOHA"}, "unknown-adapter-type", "LOHA"),
     ({"target_modules": None}, "adapter-not-supported", "target_modules"),
     ({"target_modules": "(unclosed"}, "adapter-not-supported", "unclosed"),
     ({"target_modules": ["q_prj"]}, "no-target-modules", "nearest: q_proj"),
     ({"target_modules": ["q_proj"]}, "adapter-keys", "4 of 4 tensors match"),
     ({"modules_to_save": ["nrm"]}, "no-target-modules", "nrm"),
     ({"r": 2}, "wrong-shape", "lora_A"),
     ({"r": "two"}, "bad-json", "two")],
)  # fmt: skip
def test_what_is_not_computed_is_refused(
    keys: dict[str, Any], code: str, said: str, base: Path, tmp_path: Path
) -> None:
    adapter = change(write(tmp_path / "a", base), **keys)
    found, message = code_of(f"{base}+{adapter}")
    assert found == code
    assert said in message


@pytest.mark.parametrize("keys", [
    {"init_lora_weights": "gaussian"}, {"init_lora_weights": False}, {"inference_mode": False}, {"layers_pattern": []},
    {"fan_in_fan_out": True}, {"peft_version": "0.99"}, {"exclude_modules": ["lm_head"]}, {"from_the_future": None},
    {"target_modules": r".*_proj"},
])  # fmt: skip
def test_what_changes_nothing_is_read(keys: dict[str, Any], base: Path, tmp_path: Path) -> None:
    adapter = write(tmp_path / "a", base)
    before = load(f"{base}+{adapter}").logits(IDS)
    assert torch.equal(load(f"{base}+{change(adapter, **keys)}").logits(IDS), before)


def test_excluded_layers_are_left_alone(base: Path, tmp_path: Path) -> None:
    chosen = LoRA(4, 8.0, 0.0, Targets("all-linear", exclude=("mlp.down_proj", "q_proj")))
    adapter = write(tmp_path / "a", base, chosen=chosen)
    assert not [name for name in ModelDir.open(adapter).tensors if "down_proj" in name or "q_proj" in name]
    load(f"{base}+{adapter}")


def test_a_base_with_other_weights_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = write(tmp_path / "a", base)
    other = write_model(tmp_path / "other", LLAMA, seed=5)
    assert code_of(f"{other}+{adapter}")[0] == "adapter-of-another-base"


def test_keys_that_match_in_part_are_listed(base: Path, tmp_path: Path) -> None:
    adapter = write(tmp_path / "a", base)
    rename(adapter, "layers.1.", "layers.7.")
    code, message = code_of(f"{base}+{adapter}")
    assert code == "adapter-keys"
    assert "14 of 28 tensors match" in message
    assert "layers.7" in message
    assert "(14)" in message


def test_half_an_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = write(tmp_path / "a", base, "dora")
    rename(adapter, "lora_magnitude_vector", None)
    assert code_of(f"{base}+{adapter}")[0] == "adapter-keys"


def test_a_rank_beyond_the_layer_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="rank 17 exceeds"):
        tuned(base, tmp_path / "a", rank=17)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"method": "full", "rank": 4}, "rank and --lora"), ({"method": "ia3", "lora": {"alpha": 3}}, "rank and --lora"),
     ({"method": "lora", "prompt": {"tokens": 3}}, "--prompt"),
     ({"method": "prompt", "prompt": {"projection": 3}}, "projection"),
     ({"method": "prefix", "prompt": {"tokens": 100}}, "half"), ({"lora": {"targets": "q_prj"}}, "nearest: q_proj"),
     ({"method": "loha"}, "method")],
)  # fmt: skip
def test_options_that_do_nothing_are_refused(options: dict[str, Any], said: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=said):
        tuned(base, tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("config", [QWEN2, GPT2], ids=["qwen2", "gpt2"])
@pytest.mark.parametrize("kind", ["embedding", "head", "saved", "both"])
def test_a_tied_head_is_parted_and_merged_right(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", config)
    name = "wte" if config is GPT2 else "embed_tokens"
    targets = {
        "embedding": Targets((name,)),
        "head": Targets(("lm_head",)),
        "saved": Targets(("mlp.c_proj" if config is GPT2 else "down_proj",), save=(name,)),
        "both": Targets((name, "lm_head")),
    }[kind]
    adapter = write(tmp_path / "a", base, chosen=LoRA(4, 8.0, 0.0, targets))
    wrapped = load(f"{base}+{adapter}").logits(IDS)
    assert (wrapped - load(base).logits(IDS)).abs().max() > 1e-2
    ingot.merge(f"{base}+{adapter}", out=tmp_path / "m", tokens=128)
    merged = load(tmp_path / "m")
    assert merged.model_dir.config["tie_word_embeddings"] is False
    assert (merged.logits(IDS) - wrapped).abs().max() <= 1e-4


@pytest.mark.peers
def test_new_tokens_tied_embeddings_merged_and_reloaded(tmp_path: Path) -> None:
    """The way that lost a model: tokens are added, the tied embedding is trained, the adapter merged and re-opened."""
    from transformers import AutoModelForCausalLM

    base = write_model(tmp_path / "base", QWEN2, tokenizer=write_tokenizer(tmp_path / "tok"))
    (tmp_path / "text.txt").write_text("一隻貓坐在墊子上。天空是藍色的，草地是綠色的。" * 30, encoding="utf-8")
    ingot.tokenizer_extend(str(base), data=tmp_path / "text.txt", add=12, out=tmp_path / "grown", tokens=256)
    tuned(tmp_path / "grown", tmp_path / "a", lora={"save": "embed_tokens,lm_head"}, rank=4)
    reference = f"{tmp_path / 'grown'}+{tmp_path / 'a'}"
    ids = IDS + 10
    wrapped = load(reference).logits(ids)
    ingot.merge(reference, out=tmp_path / "m", tokens=128)
    assert (load(tmp_path / "m").logits(ids) - wrapped).abs().max() <= 1e-4
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32, attn_implementation="eager")
    assert (peer(input_ids=ids).logits.detach() - wrapped).abs().max() <= 1e-4


@pytest.mark.parametrize(("config", "name"), [(BERT, "word_embeddings"), (T5, "shared")])
def test_an_embedding_that_cannot_be_parted_is_refused(config: dict[str, Any], name: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", config)
    with pytest.raises(IngotError) as caught:
        write(tmp_path / "a", base, chosen=LoRA(4, 8.0, 0.0, Targets((name,))))
    assert caught.value.code == "adapter-tied"


def test_a_family_without_room_for_a_prefix_is_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", DISTILBERT)
    with pytest.raises(IngotError) as caught:
        write(tmp_path / "a", base, "prefix")
    assert caught.value.code == "prefix-family"


def test_prefixes_that_peft_cannot_use_on_an_encoder_decoder_are_refused(tmp_path: Path) -> None:
    """With fewer layers than the decoder it fails, and one stack of two lets the target look at its own future."""
    base = write_model(tmp_path / "base", T5)
    adapter = write(tmp_path / "a", base, "prefix")
    assert (adapter_config(adapter)["num_layers"], adapter_config(adapter)["num_transformer_submodules"]) == (3, 2)
    assert code_of(f"{base}+{change(adapter, num_layers=2)}") == (
        "prefix-layers", "the prefix holds keys and values of 2 layers, the decoder has 3 (PEFT cannot use such a file "
        "either); train it anew, or set num_layers of PrefixTuningConfig to 3 or more before you train")  # fmt: skip
    code, message = code_of(f"{base}+{change(adapter, num_layers=3, num_transformer_submodules=1)}")
    assert (code, "num_transformer_submodules" in message) == ("adapter-not-supported", True)


def test_layers_have_their_plain_names() -> None:
    network = make_decoder(MIXTRAL)
    assert "model.layers.1.block_sparse_moe.experts.3.w2" in candidates(network)


def test_embeddings_that_peft_stored_along_must_be_the_bases(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", QWEN2)
    adapter = write(tmp_path / "a", base, chosen=LoRA(4, 8.0, 0.0, Targets(("embed_tokens",))))
    tensors = dict(read_tensors(ModelDir.open(adapter)))
    own = dict(read_tensors(ModelDir.open(base)))["model.embed_tokens.weight"]
    for stored, code in ((own, None), (own + 1, "adapter-carries")):
        tensors["base_model.model.model.embed_tokens.base_layer.weight"] = stored
        write_tensors(adapter / "adapter_model.safetensors", spec_of(tensors), tensors.items())
        if code is None:
            load(f"{base}+{adapter}")
        else:
            assert code_of(f"{base}+{adapter}")[0] == code


@pytest.mark.slow
def test_a_real_adapter_of_gpt2_fits_its_shape(tmp_path: Path, real_data: Path) -> None:
    shape = {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
    base = write_model(tmp_path / "base", GPT2 | shape)
    adapter = real_data / "01_models" / "lora_gpt2_kto_hh"
    model = load(f"{base}+{adapter}")
    assert (model.logits(IDS[:1]) - load(base).logits(IDS[:1])).abs().max() > 1e-3
    shown = ingot.adapters_show(adapter).summary()
    assert (shown["method"], shown["ranks"], len(shown["layers"])) == ("lora", [16], 12)
