"""Tiny models with a tokenizer, one of each family that the engine's paths differ for."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ingot.adapt.load import LanguageModel, load
from tiny import CONFIGS, ENCODER_DECODERS, write_model, write_sentinel_tokenizer, write_tokenizer


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tok")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Callable[..., LanguageModel]:
    """tiny("llama"): a loaded model of that family with random weights; made once for each family, seed and length."""

    @cache
    def make(family: str = "llama", seed: int = 0, length: int = 128) -> LanguageModel:
        path = tmp_path_factory.mktemp("models") / f"{family}-{seed}"
        return load(write_model(path, CONFIGS[family], seed, tokenizer_dir, **{window_key(family): length}))

    return make


def window_key(family: str) -> str:
    """What a family's config calls its window."""
    return {"gpt2": "n_positions", "bloom": "seq_length", "t5": "n_positions", "t5-gated": "n_positions"}.get(
        family, "max_position_embeddings"
    )


@pytest.fixture(scope="session")
def sentinel_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentinel_tokenizer(tmp_path_factory.mktemp("sentinels") / "tok")


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory, sentinel_dir: Path) -> Callable[..., LanguageModel]:
    """tiny_pair("t5"): an encoder-decoder with random weights and a tokenizer with sentinels. Further keys go to its
    config.json. BART's first and last token are forced, as in its own directories."""

    @cache
    def make(family: str = "t5", length: int = 96, **changes: Any) -> LanguageModel:
        path = tmp_path_factory.mktemp("pairs") / family
        ids = {"eos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 0 if family == "bart" else 1}
        forced = {"forced_bos_token_id": 9, "forced_eos_token_id": 0} if family == "bart" else {}
        changes = {"vocab_size": 340, "decoder_vocab_size": 340, window_key(family): length} | ids | forced | changes
        return load(write_model(path, ENCODER_DECODERS[family], 0, sentinel_dir, **changes))

    return make


@pytest.fixture(scope="session")
def tiny_prefix(tmp_path_factory: pytest.TempPathFactory, sentinel_dir: Path) -> Callable[..., LanguageModel]:
    """tiny_prefix("llama"): a decoder whose config says that it reads prompts in both directions."""

    @cache
    def make(family: str = "llama", length: int = 128) -> LanguageModel:
        path = tmp_path_factory.mktemp("prefixes") / family
        changes = {"vocab_size": 340, "eos_token_id": 0, window_key(family): length, "prefix_lm": True}
        return load(write_model(path, CONFIGS[family], 0, sentinel_dir, **changes))

    return make
