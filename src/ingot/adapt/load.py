"""Open a model for use: `load("base")`, `load("base+adapter")`.

Everything is checked on the way: the directory, the architecture, every tensor's name, shape and values, the tokenizer
against the embedding, the adapter against its base. Quantised weights are run dequantised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ingot.adapt.files import apply_adapter
from ingot.adapt.generation import Generation, read_generation
from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir, split_reference
from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.network import Network
from ingot.model.quantized import read_dense
from ingot.model.weights import load_network
from ingot.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LanguageModel:
    """A network in eval mode with what belongs to it. Compared by identity."""

    network: Network
    model_dir: ModelDir
    adapter_dir: ModelDir | None = None

    @property
    def decoder(self) -> Decoder:
        """The network, where it is one that goes on with a text. Raises `not-a-decoder`."""
        if not isinstance(self.network, Decoder):
            raise fail("not-a-decoder", path=self.model_dir.path, family=self.config.model_type)
        return self.network

    @property
    def writer(self) -> Decoder | EncoderDecoder:
        """The network, where it is one that writes text. Raises `does-not-write`."""
        if not isinstance(self.network, Decoder | EncoderDecoder):
            raise fail("does-not-write", path=self.model_dir.path, family=self.config.model_type)
        return self.network

    @property
    def config(self) -> ModelConfig:
        return self.network.config

    @property
    def device(self) -> torch.device:
        return self.network.embedding.weight.device

    @property
    def max_length(self) -> int:
        """The window in tokens."""
        return self.config.max_length

    @property
    def name(self) -> str:
        """The reference it was loaded by, without folders."""
        return self.model_dir.name + (f"+{self.adapter_dir.name}" if self.adapter_dir else "")

    @property
    def parents(self) -> list[ModelDir]:
        """The directories it came from."""
        return [self.model_dir, *([self.adapter_dir] if self.adapter_dir else [])]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer beside the weights. Raises `no-tokenizer`, `tokenizer-too-large`."""
        path = self.model_dir.path
        if not (path / "tokenizer.json").exists():
            raise fail("no-tokenizer", path=path)
        tokenizer = Tokenizer.open(path)
        check_sizes(tokenizer, self.config, path)
        return tokenizer

    @cached_property
    def generation(self) -> Generation:
        """What the directory fixes about writing."""
        has_tokenizer = (self.model_dir.path / "tokenizer.json").exists()
        return read_generation(
            self.model_dir, self.config.vocab_size, lambda: self.tokenizer.eos_id if has_tokenizer else None
        )

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer: generation_config.json's, else config.json's, else the tokenizer's."""
        return self.generation.eos_ids

    @property
    def start_id(self) -> int | None:
        """What an encoder-decoder's answer begins behind; None for other kinds. Raises `no-decoder-start`."""
        if not isinstance(self.network, EncoderDecoder):
            return None
        if self.generation.start_id is None:
            raise fail("no-decoder-start", path=self.model_dir.path)
        return self.generation.start_id

    @torch.inference_mode()
    def logits(
        self,
        ids: Sequence[Sequence[int]] | Tensor,
        source: Sequence[Sequence[int]] | Tensor | None = None,
        prefix: int = 0,
    ) -> Tensor:
        """Logits in float32, (B, T, V), for ids (B, T); an encoder-decoder also needs its `source` (B, S), and `ids`
        are then what the decoder reads. `prefix`: so many first ids are read in both directions, by a decoder that was
        trained to. Raises `no-source`, `not-a-decoder`."""
        ids_BT = torch.as_tensor(ids, device=self.device)
        if prefix:
            prefix_BT = (torch.arange(ids_BT.shape[1], device=self.device) < prefix).expand(ids_BT.shape)
            return self.decoder.head(self.decoder(ids_BT, prefix_BT=prefix_BT))
        if not isinstance(self.network, EncoderDecoder):
            return self.network.head(self.network(ids_BT))
        if source is None:
            raise fail("no-source", path=self.model_dir.path)
        source_BS = torch.as_tensor(source, device=self.device)
        return self.network.head(self.network(ids_BT, source_ids_BS=source_BS))


def check_sizes(tokenizer: Tokenizer, config: ModelConfig, path: Path) -> None:
    """Refuse a tokenizer that gives ids the embedding has no row for."""
    if tokenizer.vocab_size > config.vocab_size:
        raise fail("tokenizer-too-large", path=path, largest=tokenizer.vocab_size - 1, rows=config.vocab_size)


def load(reference: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Open `DIR` or `DIR+ADAPTER`. Raises IngotError naming what is wrong."""
    base_path, adapter_path = split_reference(str(reference))
    base = ModelDir.open(base_path)
    if base.kind != "model":
        raise fail("not-a-model", path=base_path, kind=base.kind)
    network = load_network(base, read_dense(base), dtype)
    adapter = None
    if adapter_path is not None:
        adapter = ModelDir.open(adapter_path)
        if adapter.kind != "adapter":
            raise fail("not-an-adapter", path=adapter_path, kind=adapter.kind)
        apply_adapter(network, adapter, base)
    return LanguageModel(network.to(device).eval().requires_grad_(False), base, adapter)
