"""Vectors of texts equal the mean of hidden states computed one text at a time, for every kind of network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ingot import IngotError
from ingot.adapt.load import LanguageModel, load
from ingot.infer import embed as module
from ingot.infer.embed import embed, embed_groups, text_ids
from ingot.model.encoder import Encoder
from ingot.model.encoder_decoder import EncoderDecoder
from tiny import BART, BERT, GPT2, LLAMA, MISTRAL, T5, write_model, write_sentinel_tokenizer, write_tokenizer

IDS = {"vocab_size": 340, "eos_token_id": 0, "pad_token_id": 1}
KINDS = {
    "llama": LLAMA,
    "mistral": MISTRAL,
    "gpt2": GPT2,
    "bert": BERT | {"vocab_size": 340},
    "t5": T5 | IDS | {"decoder_start_token_id": 1, "n_positions": 64},
    "bart": BART | IDS | {"decoder_start_token_id": 0, "forced_bos_token_id": 9, "forced_eos_token_id": 0},
    "prefix": LLAMA | IDS | {"prefix_lm": True, "max_position_embeddings": 64},
}
TEXTS = ["the cat", "hello world, hello dog", "天空", "a", "the dog ran to the man " * 3]


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder: Path = tmp_path_factory.mktemp(request.param)
    plain = request.param in {"llama", "mistral", "gpt2"}
    tokenizer = write_tokenizer(folder / "tok") if plain else write_sentinel_tokenizer(folder / "tok")
    return load(write_model(folder / "m", KINDS[request.param], 0, tokenizer))


@torch.inference_mode()
def naive(model: LanguageModel, ids: list[int]) -> Tensor:
    """One text, alone, no padding and no masks but the network's own."""
    ids_1T = torch.tensor([ids])
    if isinstance(model.network, EncoderDecoder):
        hidden_TC = model.network.encode(ids_1T, torch.arange(len(ids))[None], None)[0]
    elif isinstance(model.network, Encoder) or not model.config.prefix_lm:
        hidden_TC = model.network(ids_1T)[0]
    else:
        hidden_TC = model.network(ids_1T, prefix_BT=torch.ones_like(ids_1T).bool())[0]
    return hidden_TC.float().mean(0)


def test_together_equals_one_by_one(model: LanguageModel) -> None:
    found_RC = embed(model, TEXTS, normalize=False)
    expected_RC = torch.stack([naive(model, text_ids(model, text)) for text in TEXTS])
    torch.testing.assert_close(found_RC, expected_RC, rtol=1e-5, atol=1e-6)
    assert found_RC.dtype == torch.float32
    assert len({tuple(row.tolist()) for row in found_RC}) == len(TEXTS)


def test_normalised_vectors_have_length_one_and_the_same_direction(model: LanguageModel) -> None:
    raw_RC, found_RC = embed(model, TEXTS, normalize=False), embed(model, TEXTS)
    torch.testing.assert_close(found_RC.norm(dim=-1), torch.ones(len(TEXTS)))
    torch.testing.assert_close(found_RC * raw_RC.norm(dim=-1, keepdim=True), raw_RC)


def test_ids_are_read_as_they_are(model: LanguageModel) -> None:
    ids = [text_ids(model, text) for text in TEXTS]
    assert torch.equal(embed(model, ids), embed(model, TEXTS))


def test_pieces_are_small_and_cover_everything(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_RC = embed(model, TEXTS)
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 12)
    rows = [text_ids(model, text) for text in TEXTS]
    groups = [places for places, _ in embed_groups(model, rows)]
    assert sorted(place for places in groups for place in places) == list(range(len(TEXTS)))
    assert all(len(places) == 1 or len(places) * max(len(rows[at]) for at in places) <= 12 for places in groups)
    assert len(groups) > 1
    torch.testing.assert_close(embed(model, TEXTS), whole_RC, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_read_is_refused(model: LanguageModel) -> None:
    cases = ([[]], "empty-prompt"), ([[5], [5] * (model.max_length + 1)], "row-too-long"), ([[99_999]], "token-outside")
    for rows, code in cases:
        with pytest.raises(IngotError) as refused:
            embed(model, rows)
        assert refused.value.code == code
    assert embed(model, []).shape == (0, model.config.hidden_size)
