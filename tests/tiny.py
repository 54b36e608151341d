"""Tiny models and tokenizers for tests: made in memory or written as directories, deterministic by seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.network import Network, make_network
from ingot.model.weights import spec_of, write_tensors

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "dtype": "float32",
}
MISTRAL = LLAMA | {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 5}
QWEN2 = LLAMA | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True}
QWEN3 = LLAMA | {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "tie_word_embeddings": True,
    "head_dim": 16,
}
GPT2: dict[str, Any] = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 320,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "tie_word_embeddings": True,
    "dtype": "float32",
}
GEMMA2 = LLAMA | {
    "model_type": "gemma2",
    "architectures": ["Gemma2ForCausalLM"],
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "sliding_window": 5,
    "query_pre_attn_scalar": 12,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
}
GEMMA3 = GEMMA2 | {
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_theta": 100000.0,
    "rope_local_base_freq": 5000.0,
}
PHI3 = LLAMA | {
    "model_type": "phi3",
    "architectures": ["Phi3ForCausalLM"],
    "partial_rotary_factor": 0.5,
    "pad_token_id": 0,
    "original_max_position_embeddings": 128,
}
OLMO2 = LLAMA | {"model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"]}
MIXTRAL = LLAMA | {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}
QWEN3_MOE = QWEN3 | {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "tie_word_embeddings": False,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "norm_topk_prob": True,
    "mlp_only_layers": [1],
}
GPT_NEOX: dict[str, Any] = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "rotary_pct": 0.5,
    "rotary_emb_base": 5000,
    "tie_word_embeddings": False,
    "dtype": "float32",
}
BLOOM: dict[str, Any] = {
    "architectures": ["BloomForCausalLM"],
    "model_type": "bloom",
    "vocab_size": 320,
    "hidden_size": 48,
    "n_layer": 2,
    "n_head": 6,
    "layer_norm_epsilon": 1e-5,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "seq_length": 128,
    "dtype": "float32",
}
BERT: dict[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "dtype": "float32",
}
ROBERTA = BERT | {
    "model_type": "roberta",
    "architectures": ["RobertaForMaskedLM"],
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "layer_norm_eps": 1e-5,
}
DISTILBERT: dict[str, Any] = {
    "architectures": ["DistilBertForMaskedLM"],
    "model_type": "distilbert",
    "vocab_size": 320,
    "dim": 32,
    "hidden_dim": 48,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 64,
    "activation": "gelu",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "pad_token_id": 0,
    "dtype": "float32",
}
MODERNBERT: dict[str, Any] = {
    "architectures": ["ModernBertForMaskedLM"],
    "model_type": "modernbert",
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "local_attention": 8,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 5000.0,
    "local_rope_theta": 100.0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "pad_token_id": 0,
    "dtype": "float32",
}
T5: dict[str, Any] = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "vocab_size": 320,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "feed_forward_proj": "relu",
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "is_encoder_decoder": True,
    "dtype": "float32",
}
BART: dict[str, Any] = {
    "architectures": ["BartForConditionalGeneration"],
    "model_type": "bart",
    "vocab_size": 320,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "activation_function": "gelu",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "scale_embedding": True,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "bos_token_id": 0,
    "decoder_start_token_id": 2,
    "is_encoder_decoder": True,
    "dtype": "float32",
}
MARIAN = BART | {
    "architectures": ["MarianMTModel"],
    "model_type": "marian",
    "activation_function": "relu",
    "decoder_vocab_size": 320,
    "share_encoder_decoder_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": 0,
}
ENCODERS = {"bert": BERT, "roberta": ROBERTA, "distilbert": DISTILBERT, "modernbert": MODERNBERT}
ENCODER_DECODERS = {
    "t5": T5,
    "t5-gated": T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "bart": BART,
    "marian": MARIAN,
}
CONFIGS = {"llama": LLAMA, "mistral": MISTRAL, "qwen2": QWEN2, "qwen3": QWEN3, "gpt2": GPT2, "gemma2": GEMMA2,
           "gemma3": GEMMA3, "phi3": PHI3, "olmo2": OLMO2, "mixtral": MIXTRAL, "qwen3_moe": QWEN3_MOE,
           "gpt_neox": GPT_NEOX, "bloom": BLOOM}  # fmt: skip


def make_decoder(config: dict[str, Any], seed: int = 0) -> Decoder:
    """A decoder with random weights large enough that every part matters."""
    network = make_random_network(config, seed)
    assert isinstance(network, Decoder)
    return network


def make_random_network(config: dict[str, Any], seed: int = 0) -> Network:
    """The same for any kind of network."""
    network = make_network(ModelConfig.read(config, Path("config.json")))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = "norm" in name.lower() or ".ln_" in name
            parameter.copy_(1 + 0.1 * noise if is_norm and name.endswith("weight") else 0.15 * noise)
    return network.eval()


def write_model(
    path: Path, config: dict[str, Any] = LLAMA, seed: int = 0, tokenizer: Path | None = None, **changes: Any
) -> Path:
    """A model directory with random weights; `changes` override the config; text files copied from `tokenizer`."""
    config = config | changes
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    state = dict(make_random_network(config, seed).state_dict())
    write_tensors(path / "model.safetensors", spec_of(state), state.items())
    if tokenizer is not None:
        for file in tokenizer.iterdir():
            if file.name != "hallmark.json":
                (path / file.name).write_bytes(file.read_bytes())
    return path


def write_tokenizer(path: Path, special: Sequence[str] = ()) -> Path:
    """A byte-level tokenizer of 320 tokens with chat markers and a ChatML template, trained on a few sentences, with
    `special` tokens besides."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    path.mkdir(parents=True)
    specials = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>", *special]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=specials, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    text = [
        "the cat sat on the mat and the dog ran to the man",
        "天空是藍色的，草地是綠色的。",
        "1 + 2 = 3. hello world",
    ]
    tokenizer.train_from_iterator(text * 4, trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|pad|>",
        "additional_special_tokens": specials[2:],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 128,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (path / "chat_template.jinja").write_text(template)
    return path


def write_sentinel_tokenizer(path: Path, count: int = 12) -> Path:
    """`write_tokenizer` with sentinels <extra_id_0>, <extra_id_1>... behind its 320 tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(write_tokenizer(path) / "tokenizer.json"))
    tokenizer.add_special_tokens([f"<extra_id_{number}>" for number in range(count)])
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def children(parent: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found
