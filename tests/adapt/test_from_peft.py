"""Adapters that PEFT wrote give PEFT's logits here: every method on every shape that PEFT can put it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft_pairs import difference, shake, transformers_model

from tiny import BART, BERT, BLOOM, GEMMA2, GPT2, GPT_NEOX, LLAMA, MISTRAL, PHI3, QWEN2, QWEN3, ROBERTA, T5, write_model

pytestmark = pytest.mark.peers

T5 = T5 | {"num_decoder_layers": 2, "d_kv": 8}
CAUSAL, SEQ2SEQ, FEATURES = "CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"
SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "llama": (LLAMA, CAUSAL),
    "qwen2": (QWEN2, CAUSAL),
    "qwen3": (QWEN3, CAUSAL),
    "gpt2": (GPT2, CAUSAL),
    "phi3": (PHI3, CAUSAL),
    "bert": (BERT, FEATURES),
    "t5": (T5, SEQ2SEQ),
}
LINEAR = {
    "llama": ["q_proj", "down_proj"],
    "qwen2": "all-linear",
    "qwen3": r".*\.1\.self_attn\.(k|v)_proj",
    "gpt2": ["c_attn", "mlp.c_proj"],
    "phi3": ["qkv_proj", "gate_up_proj"],
    "bert": ["query", "output.dense"],
    "t5": ["q", "v", "wi"],
}
INNER = {"phi3": (["qkv_proj", "down_proj"], ["down_proj"])}


def wrote(base: Path, out: Path, config: Any, seed: int = 0) -> Any:
    """An adapter of PEFT with numbers that matter, written, and the model it is on."""
    import warnings

    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = get_peft_model(transformers_model(base), config).eval()
        names = ("lora_", "ia3_", "prompt_encoder", "modules_to_save")
        shake({name: p for name, p in peer.named_parameters() if any(part in name for part in names)}, seed)
        peer.save_pretrained(out)
    return peer


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_low_rank(kind: str, name: str, tmp_path: Path) -> None:
    from peft import LoraConfig

    config, task = SHAPES[name]
    base = write_model(tmp_path / "base", config)
    settings = LoraConfig(
        task_type=task,
        r=4,
        lora_alpha=8,
        target_modules=LINEAR[name],
        use_rslora=kind == "rslora",
        use_dora=kind == "dora",
        fan_in_fan_out=name == "gpt2",
    )
    assert difference(base, tmp_path / "a", wrote(base, tmp_path / "a", settings)) <= 1e-5


@pytest.mark.parametrize("name", SHAPES)
def test_ia3(name: str, tmp_path: Path) -> None:
    from peft import IA3Config

    config, task = SHAPES[name]
    base = write_model(tmp_path / "base", config)
    modules, inner = INNER.get(name, (None, None))
    settings = IA3Config(
        task_type=task, target_modules=modules, feedforward_modules=inner, fan_in_fan_out=name == "gpt2"
    )
    assert difference(base, tmp_path / "a", wrote(base, tmp_path / "a", settings)) <= 1e-5


MORE = {"mistral": (MISTRAL, CAUSAL), "gemma2": (GEMMA2, CAUSAL), "gpt_neox": (GPT_NEOX, CAUSAL),
        "bloom": (BLOOM, CAUSAL), "roberta": (ROBERTA, FEATURES), "bart": (BART, SEQ2SEQ)}  # fmt: skip


@pytest.mark.parametrize("name", [*SHAPES, *MORE])
def test_prompt(name: str, tmp_path: Path) -> None:
    from peft import PromptTuningConfig

    config, task = (SHAPES | MORE)[name]
    base = write_model(tmp_path / "base", config)
    settings = PromptTuningConfig(task_type=task, num_virtual_tokens=6)
    assert difference(base, tmp_path / "a", wrote(base, tmp_path / "a", settings)) <= 1e-5


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("name", SHAPES | MORE)
def test_prefix(name: str, projected: bool, tmp_path: Path) -> None:
    from peft import PrefixTuningConfig

    config, task = (SHAPES | MORE)[name]
    base = write_model(tmp_path / "base", config)
    heads = 4 if name == "bart" else None  # PEFT itself would take the encoder's, which are others here
    settings = PrefixTuningConfig(
        task_type=task, num_virtual_tokens=6, prefix_projection=projected, num_attention_heads=heads
    )
    if projected:
        settings.encoder_hidden_size = 8
    assert difference(base, tmp_path / "a", wrote(base, tmp_path / "a", settings)) <= 1e-5


@pytest.mark.parametrize("layers", [2, 4, 5])
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_prefix_of_an_encoder_decoder_in_files_of_other_sizes(name: str, layers: int, tmp_path: Path) -> None:
    """PEFT deals a file's layers out in an order of its own; with an even number two layers may share one."""
    from peft import PrefixTuningConfig

    config = (SHAPES | MORE)[name][0] | ({"decoder_layers": 2} if name == "bart" else {})
    base = write_model(tmp_path / "base", config)
    settings = PrefixTuningConfig(
        task_type=SEQ2SEQ, num_virtual_tokens=6, num_layers=layers, num_attention_heads=4, token_dim=32
    )
    assert difference(base, tmp_path / "a", wrote(base, tmp_path / "a", settings)) <= 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize(("name", "targets"), [
    ("llama", ["embed_tokens", "lm_head", "v_proj"]), ("qwen2", ["embed_tokens", "v_proj"]),
    ("gpt2", ["wte", "c_attn"]),
])  # fmt: skip
def test_embedding_and_head(name: str, targets: list[str], dora: bool, tmp_path: Path) -> None:
    """A tied head goes on reading the embedding as it was; PEFT stores the embedding along, which is checked."""
    from peft import LoraConfig

    base = write_model(tmp_path / "base", SHAPES[name][0])
    settings = LoraConfig(
        task_type=CAUSAL, r=4, lora_alpha=8, target_modules=targets, use_dora=dora, fan_in_fan_out=name == "gpt2"
    )
    assert difference(base, tmp_path / "a", wrote(base, tmp_path / "a", settings)) <= 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_modules_kept_whole(name: str, tmp_path: Path) -> None:
    from peft import LoraConfig

    base = write_model(tmp_path / "base", SHAPES[name][0])
    settings = LoraConfig(
        task_type=CAUSAL, r=4, lora_alpha=8, target_modules=["v_proj"], modules_to_save=["embed_tokens", "lm_head"]
    )
    assert difference(base, tmp_path / "a", wrote(base, tmp_path / "a", settings)) <= 1e-5
