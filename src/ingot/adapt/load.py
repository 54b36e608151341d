"""Open a model for use: `load("base")`, `load("base+adapter")`, `load("base+a+b")`.

Everything is checked on the way: the directory, the architecture, every tensor's name, shape and values, the tokenizer
against the embedding, each adapter against its base. Quantised weights run dequantised, or on their codes if asked.

Several adapters act together, one after the other; `model.active.rows` chooses among them by row of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.adapt.active import Active
from ingot.adapt.files import apply_adapter
from ingot.adapt.generation import Generation, read_generation
from ingot.adapt.methods import Settings, length_in_front
from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.model_dir import ModelDir, split_reference
from ingot.model.cache import KVCache
from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.held import HeldLinear
from ingot.model.network import Network
from ingot.model.nf4_files import find
from ingot.model.nf4_linear import hold_in_nf4
from ingot.model.packed_load import WEIGHTS, load_packed, make_plan
from ingot.model.packing import PACKINGS
from ingot.model.place.choose import choose
from ingot.model.place.layout import Layout
from ingot.model.place.plan import Placement
from ingot.model.place.spread import load_spread
from ingot.model.place.wish import Wish, parse_place
from ingot.model.quantized import Quantization, read_dense
from ingot.model.ranks.lead import Ranks
from ingot.model.weights import load_network
from ingot.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LanguageModel:
    """A network in eval mode with what belongs to it. Compared by identity. `placement`: where its layers lie, where
    that was planned; `ranks`: the other processes that it is split over."""

    network: Network
    model_dir: ModelDir
    adapter_dirs: tuple[ModelDir, ...] = ()
    adapters: tuple[Settings, ...] = ()
    active: Active = field(default_factory=Active)
    weights: str = "dense"
    """What its linear layers multiply by."""
    placement: Placement | None = None
    ranks: Ranks | None = None

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
        """Where ids go in and logits come out."""
        return self.network.embedding.weight.device

    @property
    def devices(self) -> list[torch.device]:
        """Of each layer that writes, where its keys and values lie."""
        layers = range(self.writer.config.num_layers)
        return [self.placement.device(layer) if self.placement else self.device for layer in layers]

    def new_cache(self, num_tokens: int, dtype: torch.dtype) -> KVCache:
        """Room for keys and values of what is written, where the layers are. Raises `rank-lost`."""
        if self.ranks is not None:
            return self.ranks.new_cache(num_tokens, dtype)
        return KVCache(self.writer.config, num_tokens, self.devices, dtype)

    def check(self) -> None:
        """Raises `rank-lost` where a process that has a part of it is gone."""
        if self.ranks is not None:
            self.ranks.check()

    @property
    def max_length(self) -> int:
        """The window in tokens, less what adapters put in front of every text."""
        return self.config.max_length - length_in_front(self.network)

    @property
    def name(self) -> str:
        """The reference it was loaded by, without folders."""
        return "+".join(parent.name for parent in self.parents)

    @property
    def reference(self) -> str:
        """What `load` takes to open it again."""
        return "+".join(str(parent.path) for parent in self.parents)

    @property
    def parents(self) -> list[ModelDir]:
        """The directories it came from."""
        return [self.model_dir, *self.adapter_dirs]

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


def untied(model: LanguageModel) -> dict[str, Any]:
    """What adapters changed of the config: embedding and head parted (`ingot.adapt.tied`)."""
    before = ModelConfig.read(model.model_dir.config, model.model_dir.path)
    return {} if before.tie_embeddings == model.config.tie_embeddings else {"tie_word_embeddings": False}


def check_sizes(tokenizer: Tokenizer, config: ModelConfig, path: Path) -> None:
    """Refuse a tokenizer that gives ids the embedding has no row for."""
    if tokenizer.vocab_size > config.vocab_size:
        raise fail("tokenizer-too-large", path=path, largest=tokenizer.vocab_size - 1, rows=config.vocab_size)


def load(
    reference: str | Path,
    place: str = "cpu",
    dtype: torch.dtype | None = torch.float32,
    nf4: bool = False,
    weights: str = "dense",
) -> LanguageModel:
    """Open `DIR`, `DIR+ADAPTER` or `DIR+ADAPTER+ADAPTER`, the base in `dtype`, None: as it is stored; `nf4`: the layers
    of its blocks in 4 bits, with the bytes on disk where they are NF4's. Adapters are held in float32 whatever
    the base is.

    `place`: a device; "auto" or sizes such as "cuda=8GiB,cpu=4GiB" to spread what is larger than one
    (`ingot.model.place`); "2xcpu" to split it over processes (`ingot.model.ranks`).

    `weights`: what linear layers multiply by, for inference on CPU (`ingot.model.packed_load`). "dense"; "int8" or
    "int4": packed on loading, or as stored where that is such codes; "auto": stored codes where kernels run them. A
    model that is spread or split is dense.

    Raises IngotError naming what is wrong."""
    if weights not in WEIGHTS:
        raise fail("weights-choice", found=weights, known=", ".join(WEIGHTS))
    base, adapters = open_reference(str(reference))
    wish = parse_place(place)
    placement = choose(base, wish, dtype, weights)
    if wish.ranks > 1 or (isinstance(placement, Placement) and placement.is_spread):
        found = [*(str(adapter.path) for adapter in adapters), *(["nf4"] if nf4 else [])]
        found += [f"--weights {weights}"] if weights in PACKINGS else []
        if found:
            raise fail("place-plain", place=place, what=found[0])
        return _laid_out(base, wish, placement, dtype)
    device, plan = (placement, None) if isinstance(placement, str) else (placement.home, placement)
    network, held = _network(base, device, dtype, nf4, weights)
    active = Active()
    settings = apply_adapters(network, base, adapters, active)
    network = network.to(device).eval().requires_grad_(False)
    if isinstance(network, Decoder) and isinstance(getattr(network, network.family.head, None), HeldLinear):
        held = text("weights-with-head", weights=held)  # unless an adapter has parted it from the embedding
    return LanguageModel(network, base, tuple(adapters), settings, active, held, plan)


def _laid_out(base: ModelDir, wish: Wish, placement: str | Placement, dtype: torch.dtype | None) -> LanguageModel:
    """A model in several places, or on several processes."""
    if isinstance(placement, Placement):
        return LanguageModel(load_spread(Layout.of(base), dtype, placement), base, placement=placement)
    ranks = Ranks(Layout.of(base), wish.ranks, placement, dtype)
    return LanguageModel(ranks.network, base, ranks=ranks)


def _network(base: ModelDir, device: str, dtype: torch.dtype | None, nf4: bool, weights: str) -> tuple[Network, str]:
    """A base, and what its weights are."""
    quantization = Quantization.of(base.config, base.path / "config.json")
    if nf4 and quantization and not quantization.is_nf4:
        raise fail("already-quantized", path=base.path)
    on_cpu = torch.device(device).type == "cpu"
    if weights in PACKINGS and (nf4 or not on_cpu):
        raise fail("weights-elsewhere", weights=weights, found="nf4" if nf4 else device)
    plan = make_plan(base, weights) if on_cpu and not nf4 else None
    if plan:
        return load_packed(base, plan, dtype), str(plan)
    hold = partial(hold_in_nf4, path=base.path) if nf4 else None
    return load_network(base, read_dense(base), dtype, hold, partial(find, base)), "nf4" if nf4 else "dense"


def open_reference(reference: str) -> tuple[ModelDir, list[ModelDir]]:
    """The directories of a reference, each of its kind. Raises `not-a-model`, `not-an-adapter`."""
    base_path, adapter_paths = split_reference(reference)
    base = ModelDir.open(base_path)
    if base.kind != "model":
        raise fail("not-a-model", path=base_path, kind=base.kind)
    adapters = [ModelDir.open(path) for path in adapter_paths]
    for adapter in adapters:
        if adapter.kind != "adapter":
            raise fail("not-an-adapter", path=adapter.path, kind=adapter.kind)
    return base, adapters


def apply_adapters(
    network: Network, base: ModelDir, adapters: Sequence[ModelDir], active: Active, any_base: bool = False
) -> tuple[Settings, ...]:
    """Put adapters on, in order; `any_base`: whatever they were trained on."""
    trained_on = None if any_base else base
    return tuple(
        apply_adapter(network, adapter, trained_on, active, adapters[:number])
        for number, adapter in enumerate(adapters)
    )
