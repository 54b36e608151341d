"""A model that learns to read prompts in both directions says so wherever it goes, and is not taught otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import ingot
from cases import first_fast
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.infer.engine import generate
from ingot.infer.sampling import Sampling
from tiny import BART, LLAMA, write_model, write_sentinel_tokenizer

QUICK: dict[str, Any] = {"max_steps": 2, "loop": {"compile": "off", "precision": "fp32"}}
SMALL: dict[str, Any] = QUICK | {"depth": 1, "length": 64, "batch_tokens": 128,
                                 "corpus": {"allow_unknown_licence": True, "heldout": 0.2}}  # fmt: skip
ANSWER = {"objective": "prefix-lm", "objectives": {"split": "answer"}}
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "next-token": ({"objective": "next-token"}, False),
    "prefix-lm": ({"objective": "prefix-lm"}, True),
    "span-corruption": ({"objective": "span-corruption"}, True),
    "mixture": ({"objective": "mixture", "objectives": {"shares": "next-token:0.5,prefix-lm:0.5"}}, True),
    "t5": ({"objective": "prefix-lm", "family": "t5"}, False),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, conversations, a tokenizer, a left-to-right model and one that reads in both directions."""
    path = tmp_path_factory.mktemp("directions")
    lines = [f"the cat number {n} sat on the mat. 天空是藍色的{n}。" for n in range(40)]
    (path / "corpus.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    chat = {"messages": [{"role": "user", "content": "cat"}, {"role": "assistant", "content": "sat"}]}
    (path / "chat.jsonl").write_text((json.dumps(chat) + "\n") * 4)
    tok = write_sentinel_tokenizer(path / "tok")
    config = LLAMA | {"vocab_size": 340, "eos_token_id": 0, "max_position_embeddings": 64}
    write_model(path / "causal", config, 0, tok)
    write_model(path / "both", config | {"prefix_lm": True}, 1, tok)
    return path


def config_of(found: ModelDir) -> dict[str, Any]:
    return json.loads((found.path / "config.json").read_text())


@first_fast("case", CASES)
def test_pretraining_writes_down_what_was_learnt(case: str, folder: Path, tmp_path: Path) -> None:
    options, both_ways = CASES[case]
    options = {"family": "llama"} | options
    found = ingot.pretrain(folder / "corpus.jsonl", tokenizer=folder / "tok", out=tmp_path / "m", **SMALL, **options)
    assert config_of(found).get("prefix_lm", False) is load(found.path).config.prefix_lm is both_ways


def test_tuning_otherwise_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    common = {"out": tmp_path / "t", **QUICK}
    both = str(folder / "both")
    mixture = {"objective": "mixture", "objectives": {"shares": "next-token:1"}}
    for options in ({}, {"method": "full"}, {"objective": "next-token", "as_text": True}, {**mixture, "as_text": True}):
        with pytest.raises(IngotError, match="--objective prefix-lm") as error:
            ingot.tune(both, data=folder / "chat.jsonl", **common, **options)
        assert error.value.code == "reads-both-ways"
    with pytest.raises(IngotError) as error:
        ingot.context_extend(both, length=128, out=tmp_path / "x", data=folder / "corpus.jsonl")
    assert error.value.code == "context-both-ways"
    assert not list(tmp_path.iterdir())


@first_fast("base", ["causal", "both"])
@first_fast("method", ["full", "lora"])
def test_tuning_by_prefixes_makes_and_keeps_the_mark(base: str, method: str, folder: Path, tmp_path: Path) -> None:
    """An adapter, which has no config of a model, carries it in its hallmark to wherever it is put on its base."""
    tuned = ingot.tune(str(folder / base), data=folder / "chat.jsonl", out=tmp_path / "t", method=method, **ANSWER,
                       **QUICK)  # fmt: skip
    reference = str(tuned.path) if method == "full" else f"{folder / base}+{tuned.path}"
    model, plain = load(reference), load(folder / base)
    assert model.config.prefix_lm
    assert plain.config.prefix_lm == (base == "both")
    prompt = list(range(20, 40))
    (found,) = generate(model, [prompt], Sampling(temperature=0, max_tokens=1))
    assert found.tokens == [int(model.logits([prompt], prefix=20)[0, -1].argmax())]
    if method == "lora":
        merged = ingot.merge(reference, out=tmp_path / "merged", tokens=64)
        small = ingot.quantize(reference, out=tmp_path / "small", tokens=64)
        assert [config_of(one)["prefix_lm"] for one in (merged, small)] == [True, True]
        with pytest.raises(IngotError) as error:
            ingot.tune(reference, data=folder / "chat.jsonl", out=tmp_path / "x", **QUICK)
        assert error.value.code == "reads-both-ways"


@pytest.mark.slow
def test_adapters_made_of_adapters_keep_the_mark_and_take_it_out(folder: Path, tmp_path: Path) -> None:
    base, chats = str(folder / "causal"), folder / "chat.jsonl"
    both = ingot.tune(base, data=chats, out=tmp_path / "both", **ANSWER, **QUICK).path
    plain = ingot.tune(base, data=chats, out=tmp_path / "plain", **QUICK).path
    added = ingot.adapters_add(str(both), str(both), out=tmp_path / "added", method="svd", weights=[0.5, 0.5])
    assert load(f"{base}+{added.path}").config.prefix_lm
    with pytest.raises(IngotError, match="prefix_lm") as error:
        ingot.adapters_add(str(both), str(plain), out=tmp_path / "x")
    assert error.value.code == "merge-config"
    merged = ingot.merge(f"{base}+{both}", out=tmp_path / "merged", tokens=64)
    again = ingot.adapters_unmerge(f"{merged.path}+{both}", out=tmp_path / "again")
    assert (load(merged.path).config.prefix_lm, load(again.path).config.prefix_lm) == (True, False)


@pytest.mark.slow
def test_what_is_made_of_a_model_reads_as_it_does(folder: Path, tmp_path: Path) -> None:
    both = str(folder / "both")
    made = [
        ingot.quantize(both, out=tmp_path / "q", tokens=64),
        ingot.merge(both, both, out=tmp_path / "m", tokens=64),
        ingot.context_extend(both, length=128, out=tmp_path / "x"),
    ]
    assert all(load(one.path).config.prefix_lm for one in made)
    with pytest.raises(IngotError) as error:
        ingot.merge(both, str(folder / "causal"), out=tmp_path / "n", tokens=64)
    assert (error.value.code, error.value.details["key"]) == ("merge-config", "prefix_lm")


@pytest.mark.peers
def test_transformers_opens_it_and_keeps_the_key(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    peer = AutoModelForCausalLM.from_pretrained(folder / "both").eval()
    peer.save_pretrained(tmp_path / "again")
    assert load(tmp_path / "again").config.prefix_lm
    ids = torch.tensor([list(range(20, 40))])
    assert (peer(ids).logits - load(folder / "both").logits(ids)).abs().max() < 1e-4


@pytest.mark.slow
def test_an_encoder_decoder_is_tuned_from_its_own_start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BART's target begins behind its end token, not behind padding; what its directory fixes about writing stays."""
    from ingot.train import tune as module

    config = BART | {"vocab_size": 340, "eos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 0}
    base = write_model(tmp_path / "bart", config, 0, folder / "tok")
    fixed = {"forced_bos_token_id": 9, "bad_words_ids": [[1]], "eos_token_id": [0, 5]}
    (base / "generation_config.json").write_text(json.dumps(fixed))
    made, lessons = module.make_objective, []

    def watching(*given: Any) -> Any:
        objective = made(*given)
        lesson = objective.lesson
        object.__setattr__(objective, "lesson", lambda *step: lessons.append(lesson(*step)) or lessons[-1])
        return objective

    monkeypatch.setattr(module, "make_objective", watching)
    tuned = ingot.tune(str(base), data=folder / "chat.jsonl", out=tmp_path / "t", method="full", **ANSWER, **QUICK)
    assert {int(lesson.ids_BT[row, 0]) for lesson in lessons for row in range(len(lesson.ids_BT))} == {0}
    written = json.loads((tuned.path / "generation_config.json").read_text())
    assert written == fixed | {"bos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 0,
                               "eos_token_id": [0, 3, 5]}  # fmt: skip
    assert load(tuned.path).generation.forced_first == 9
