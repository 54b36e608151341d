"""OLMo 2 (Team OLMo 2024, arXiv 2501.00656): Llama with the norms behind attention and feed-forward, before they are
added, and queries and keys normalised over their whole width."""

from __future__ import annotations

from torch import Tensor, nn

from ingot.model.cache import CacheRows
from ingot.model.config import Json
from ingot.model.families.llama import LlamaBackbone, LlamaConfig, attention, read_like_llama
from ingot.model.layers import DecoderFamily, GatedMLP, RMSNorm
from ingot.model.positions import Angles


class PostNormBlock(nn.Module):
    """Attention and feed-forward, what each gives normalised and added to the stream."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = attention(config, layer)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size, config.activation)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(self, x_BTC: Tensor, angles: Angles | None, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        x_BTC = x_BTC + self.post_attention_layernorm(self.self_attn(x_BTC, angles, mask, rows))
        return x_BTC + self.post_feedforward_layernorm(self.mlp(x_BTC))


def backbone(config: LlamaConfig) -> LlamaBackbone:
    return LlamaBackbone(config, PostNormBlock)


def olmo2(config: Json) -> LlamaConfig:
    bias = bool(config.get("attention_bias", False))
    return read_like_llama(LlamaConfig, config, qkv_bias=bias, out_bias=bias, qk_norm="width")


OLMO2 = DecoderFamily(olmo2, backbone, "Olmo2ForCausalLM")
