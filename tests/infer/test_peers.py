"""Greedy tokens equal those of transformers' generate on the same directories."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ingot
from ingot.adapt.load import LanguageModel, load
from ingot.infer.engine import generate
from ingot.infer.likelihood import token_logprobs
from ingot.infer.reader import Reader
from ingot.infer.sampling import Sampling
from tiny import ENCODER_DECODERS

Tiny = Callable[..., LanguageModel]
PROMPTS = [[5, 6, 7, 8, 9], [200], list(range(10, 60)), [33, 33]]

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "qwen3"])
def test_greedy_tokens_equal_transformers(tiny: Tiny, family: str) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny(family)
    peer = AutoModelForCausalLM.from_pretrained(model.model_dir.path).eval()
    found = generate(model, PROMPTS, Sampling(temperature=0, max_tokens=40, repetition_penalty=1.1))
    for prompt, sequence in zip(PROMPTS, found, strict=True):
        expected = peer.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=40,
            repetition_penalty=1.1, eos_token_id=sorted(model.eos_ids), pad_token_id=1,
        )  # fmt: skip
        assert sequence.tokens == expected[0, len(prompt) :].tolist()


def peer_answers(path: Path, model: LanguageModel, sources: list[list[int]], **controls: Any) -> list[list[int]]:
    """What transformers' generate says to a padded batch of sources, each answer up to its end; its start left out."""
    from transformers import AutoModelForSeq2SeqLM

    peer = AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    width, pad = max(map(len, sources)), model.model_dir.config["pad_token_id"]
    ids = torch.tensor([[*source, *[pad] * (width - len(source))] for source in sources])
    keep = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in sources])
    # its own cache counts an encoder's layers where a T5 has more of a decoder's
    found = peer.generate(ids, attention_mask=keep, do_sample=False, use_cache=False, **controls)[:, 1:].tolist()
    ends = [next((at + 1 for at, id in enumerate(row) if id in model.eos_ids), len(row)) for row in found]
    return [row[:end] for row, end in zip(found, ends, strict=True)]


SOURCES = [[7, 8, 9, 0], [200, 0], [*range(10, 60), 0], [33, 33, 40, 0], [5] * 20]
FORCED = {"forced_bos_token_id": 9, "forced_eos_token_id": 0, "bad_words_ids": [[12], [205]]}


@pytest.mark.parametrize("family", ENCODER_DECODERS)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_answers_to_sources_of_many_lengths_equal_transformers(
    tiny_pair: Tiny, family: str, penalty: float
) -> None:
    model = tiny_pair(family)
    own = Sampling(temperature=0, max_tokens=40, repetition_penalty=penalty)
    found = [sequence.tokens for sequence in generate(model, SOURCES, own, num_slots=3)]
    path = model.model_dir.path
    assert found == peer_answers(path, model, SOURCES, max_new_tokens=40, repetition_penalty=penalty)
    assert len(set(map(tuple, found))) > 2


def test_what_generation_config_fixes_is_done_as_by_transformers(tiny_pair: Tiny, tmp_path: Path) -> None:
    """The last token is forced at the end of what fits, and nowhere else."""
    shutil.copytree(tiny_pair("marian", forced_eos_token_id=None).model_dir.path, tmp_path / "m")
    (tmp_path / "m" / "generation_config.json").write_text(
        json.dumps(FORCED | {"eos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 7})
    )
    model = load(tmp_path / "m")
    for most in (1, 2, 7):
        own = Sampling(temperature=0, max_tokens=most, repetition_penalty=1.2)
        found = [sequence.tokens for sequence in generate(model, SOURCES, own)]
        assert found == peer_answers(tmp_path / "m", model, SOURCES, max_new_tokens=most, repetition_penalty=1.2)
        assert all(len(tokens) < 7 or tokens[-1] == 0 for tokens in found)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "transformer"])
def test_a_directory_we_trained_writes_the_same_there(family: str, sentinel_dir: Path, tmp_path: Path) -> None:
    """With its own generation_config.json, from texts."""
    lines = [f"the cat number {n} sat on the mat. 天空是藍色的{n}。" for n in range(60)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    corpus = {"allow_unknown_licence": True, "heldout": 0.2}
    out = ingot.pretrain(tmp_path / "c.jsonl", tokenizer=sentinel_dir, out=tmp_path / "m", family=family, depth=2,
                         length=64, objective="span-corruption", batch_tokens=512, max_steps=60, corpus=corpus,
                         loop={"compile": "off", "precision": "fp32"}).path  # fmt: skip
    texts = ["the cat<extra_id_0> sat on<extra_id_1> mat.", "天空<extra_id_0>", "the<extra_id_0>"]
    found = ingot.generate(str(out), prompts_file=write_lines(tmp_path / "p.txt", texts), temperature=0, max_tokens=30)
    asked = [prompt.ids for prompt in found.prompts]
    expected = peer_answers(out, load(out), asked, max_new_tokens=30)
    assert [sequence.tokens for sequence in found.sequences] == expected
    assert any("<extra_id_0>" in text for text in found.texts)


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_text_with_gaps_is_what_transformers_reads(tiny_pair: Tiny) -> None:
    from transformers import AutoTokenizer

    model = tiny_pair()
    peer = AutoTokenizer.from_pretrained(model.model_dir.path)
    for text in ("the cat<extra_id_0> on<extra_id_1> mat", "<extra_id_0> cat", "天<extra_id_11>", "the cat"):
        own = Reader.of(model).text(model.tokenizer, text)
        assert own.ids == [*peer(text, add_special_tokens=False).input_ids, peer.eos_token_id]


def test_loss_equals_transformers(tiny: Tiny) -> None:
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([PROMPTS[2]])
    with torch.no_grad():
        loss = AutoModelForCausalLM.from_pretrained(tiny().model_dir.path)(ids, labels=ids).loss
    assert -token_logprobs(tiny(), PROMPTS[2]).mean().item() == pytest.approx(loss.item(), abs=1e-5)
