"""Settings whose peak memory `memory.py` measures: training, writing, writing on packed weights, training on a card."""

from __future__ import annotations

from typing import Any


def case(family: str, depth: int, vocab: int, rows: int, length: int, **how: Any) -> dict[str, Any]:
    return {"family": family, "depth": depth, "vocab": vocab, "rows": rows, "length": length, "how": how}


CASES = [
    case("qwen3", 4, 4096, 8, 256),
    case("qwen3", 8, 8192, 8, 256),
    case("qwen3", 8, 8192, 8, 256, checkpointing=True),
    case("qwen3", 8, 8192, 8, 256, micro_batches=4),
    case("qwen3", 8, 8192, 8, 256, optimizer="adamw8"),
    case("qwen3", 8, 8192, 8, 256, optimizer="muon"),
    case("qwen3", 8, 8192, 8, 256, method="lora"),
    case("qwen3", 8, 8192, 4, 512),
    case("qwen3", 8, 32768, 4, 256),
    case("qwen3", 12, 16384, 4, 256),
    case("qwen3", 12, 16384, 4, 256, checkpointing=True, optimizer="adamw8"),
    case("qwen3", 16, 16384, 2, 256),
    case("qwen3", 16, 16384, 4, 256, method="lora", checkpointing=True),
    case("llama", 8, 8192, 16, 128),
    case("llama", 10, 8192, 6, 256, micro_batches=2),
    case("gpt2", 8, 8192, 8, 256),
    case("gpt2", 12, 16384, 4, 256, optimizer="muon"),
    case("bert", 8, 8192, 8, 256),
    case("modernbert", 8, 8192, 8, 256),
    case("t5", 8, 8192, 8, 256),
    case("qwen3", 12, 16384, 4, 256, method="lora"),
    case("qwen3", 8, 8192, 8, 256, method="lora", micro_batches=4),
    case("qwen3", 8, 8192, 8, 256, method="rslora", rank=64),
    case("qwen3", 8, 8192, 8, 256, method="dora"),
    case("qwen3", 12, 16384, 4, 256, method="dora", checkpointing=True),
    case("qwen3", 8, 8192, 8, 256, method="ia3"),
    case("qwen3", 8, 8192, 8, 256, method="prefix"),
    case("qwen3", 12, 16384, 4, 256, method="prefix", prompt={"tokens": 32, "projection": 128}),
    case("qwen3", 8, 8192, 8, 256, method="prompt"),
    case("gpt2", 12, 16384, 4, 256, method="prompt", prompt={"tokens": 64}),
    case("bert", 8, 8192, 8, 256, method="lora"),
    case("t5", 8, 8192, 8, 256, method="ia3"),
    case("qwen3", 12, 16384, 4, 256, method="qlora", checkpointing=True),
]
WRITING_CASES = [
    case("qwen3", 8, 8192, 8, 512),
    case("qwen3", 8, 8192, 64, 512),
    case("qwen3", 12, 16384, 1, 256),
    case("qwen3", 12, 16384, 16, 1024),
    case("qwen3", 16, 32768, 4, 2048),
    case("llama", 20, 32768, 8, 512),
    case("gpt2", 12, 16384, 16, 1024),
    case("qwen3", 8, 8192, 16, 512, kv_heads=2),
    case("t5", 12, 8192, 16, 256),
]
"""Here `rows` are texts written at once."""

WIDE: dict[str, Any] = {"vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768}  # fmt: skip
"""Qwen2-0.5B's shape."""
PACKED_CASES = [
    case("llama", 20, 32768, 8, 512, weights="int8"),
    case("llama", 20, 32768, 8, 512, weights="int4"),
    case("llama", 20, 32768, 4, 2048, weights="int8", kv="bfloat16"),
    case("qwen3", 24, 32768, 16, 512, weights="int4", kv="int8"),
    case("qwen3", 24, 32768, 1, 2048, weights="int8", stored="BF16"),
    case("gpt2", 20, 32768, 8, 512, weights="int8"),
    case("gpt2", 20, 32768, 8, 512, weights="int4", kv="int8"),
    case("qwen2", 24, 151936, 8, 512, weights="int8", stored="BF16", shape=WIDE),
    case("qwen2", 24, 151936, 32, 256, weights="int8", stored="BF16", shape=WIDE, kv="int8"),
    case("qwen2", 24, 151936, 8, 512, weights="int4", stored="BF16", shape=WIDE),
    case("qwen2", 24, 151936, 2, 4096, weights="int4", stored="BF16", shape=WIDE),
]
"""GPT-2 runs layer by layer, the others in one call a step."""

BF16: dict[str, Any] = {"precision": "bf16", "device": "cuda"}
CUDA_CASES = [
    case("qwen3", 16, 32768, 16, 512, **BF16),
    case("qwen3", 16, 32768, 16, 512, device="cuda"),
    case("qwen3", 24, 32768, 16, 1024, **BF16),
    case("qwen3", 24, 32768, 16, 1024, checkpointing=True, **BF16),
    case("qwen3", 24, 32768, 16, 1024, micro_batches=4, **BF16),
    case("qwen3", 24, 32768, 16, 1024, optimizer="adamw8", checkpointing=True, **BF16),
    case("qwen3", 24, 32768, 16, 1024, optimizer="muon", **BF16),
    case("qwen3", 24, 32768, 16, 1024, method="lora", **BF16),
    case("qwen3", 24, 32768, 16, 1024, method="lora", checkpointing=True, **BF16),
    case("qwen3", 24, 32768, 4, 4096, **BF16),
    case("qwen3", 24, 131072, 8, 1024, **BF16),
    case("qwen3", 24, 32768, 8, 1024, offload="optimizer", checkpointing=True, **BF16),
    case("qwen3", 32, 32768, 8, 1024, offload="layers", **BF16),
    case("qwen3", 32, 32768, 8, 1024, offload="layers", method="lora", **BF16),
    case("qwen3", 40, 65536, 4, 2048, **BF16),
    case("llama", 24, 65536, 16, 1024, micro_batches=2, **BF16),
    case("gpt2", 24, 50304, 16, 1024, **BF16),
    case("bert", 24, 32768, 32, 512, **BF16),
    case("modernbert", 24, 32768, 32, 512, **BF16),
    case("t5", 24, 32768, 32, 512, **BF16),
]
