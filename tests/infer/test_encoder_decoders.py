"""Text from encoder-decoders: the engine against the naive loop, and what their directories ask for."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mixed import MIXED, prompts, run
from naive import naive_generate, naive_text

import ingot
from cases import first_fast
from ingot import IngotError
from ingot.adapt.load import LanguageModel, load
from ingot.cli import main
from ingot.infer.engine import Engine, generate
from ingot.infer.sampling import Sampling
from ingot.infer.sequence import Sequence
from tiny import BERT, ENCODER_DECODERS, write_model

Tiny = Callable[..., LanguageModel]


@pytest.mark.slow
@pytest.mark.parametrize("family", ENCODER_DECODERS)
@pytest.mark.parametrize("num_slots", [1, 3, 8])
def test_tokens_equal_the_naive_loop(tiny_pair: Tiny, family: str, num_slots: int) -> None:
    """Sources of many lengths and every kind of sampling in one batch, greedy among them."""
    model = tiny_pair(family)
    found = generate(model, prompts(), MIXED, num_slots)
    for source, sampling, sequence in zip(prompts(), MIXED, found, strict=True):
        assert sequence.tokens == naive_generate(model, source, sampling, sequence.seed)
        assert sequence.prompt_ids == source
        assert sequence.text == naive_text(model, [model.start_id], sequence.tokens, [])
    assert len({tuple(sequence.tokens) for sequence in found}) == len(found)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_sources_read_apart_give_the_same_tokens(tiny_pair: Tiny, family: str) -> None:
    """Most sources are longer than what a step reads together."""
    whole = generate(tiny_pair(family), prompts(), MIXED)
    engine = Engine(tiny_pair(family), num_slots=5, prefill_tokens=7)
    apart = [engine.submit(source, own) for source, own in zip(prompts(), MIXED, strict=True)]
    run(engine)
    assert [each.tokens for each in apart] == [each.tokens for each in whole]
    assert engine.num_free_blocks == engine.num_blocks
    assert engine.scheduler.source_blocks.num_free == engine.scheduler.source_blocks.num_blocks - 1


def test_a_source_is_encoded_once(tiny_pair: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_pair()
    encode, seen = model.network.encode, []
    monkeypatch.setattr(model.network, "encode", lambda *given: seen.append(given[0].shape) or encode(*given))
    generate(model, prompts([3, 5]), Sampling(temperature=0, max_tokens=9, ignore_eos=True))
    assert seen == [(2, 5)]


@first_fast("seed", range(3))
def test_arrivals_and_cancellations_change_nobody_elses_tokens(tiny_pair: Tiny, seed: int) -> None:
    """Slots are used again by other sequences with shorter and longer sources."""
    model, chooser = tiny_pair("marian"), random.Random(seed)
    expected = [naive_generate(model, source, own, own.seed or 0) for source, own in zip(prompts(), MIXED, strict=True)]
    engine, live, todo = Engine(model, num_slots=3, prefill_tokens=16), [], list(range(len(MIXED))) * 2
    while todo or engine.has_work:
        if todo and chooser.random() < 0.5:
            number = todo.pop(chooser.randrange(len(todo)))
            live.append((number, engine.submit(prompts()[number], MIXED[number])))
        if live and chooser.random() < 0.1:
            engine.cancel(chooser.choice(live)[1])
        engine.step()
    for number, sequence in live:
        whole = expected[number]
        assert sequence.tokens == (whole[: len(sequence.tokens)] if sequence.finish_reason == "cancelled" else whole)
    assert engine.num_free_blocks == engine.num_blocks


def test_a_long_source_does_not_hold_up_the_others(tiny_pair: Tiny) -> None:
    """It is read in one step, and those that write go on in the same step."""
    engine = Engine(tiny_pair(), num_slots=2, prefill_tokens=8)
    early = engine.submit(prompts()[1], Sampling(max_tokens=50, ignore_eos=True))
    engine.step()
    late = engine.submit(prompts()[6], Sampling(max_tokens=2, ignore_eos=True))
    assert {event.sequence for event in engine.step()} == {early, late}


@first_fast("family", ["t5", "bart"])
def test_source_and_answer_have_a_window_each(tiny_pair: Tiny, family: str) -> None:
    model = tiny_pair(family)
    (source,) = prompts([model.max_length])
    free = Sampling(seed=0, max_tokens=None, ignore_eos=True)
    (sequence,) = generate(model, [source], free)
    assert (sequence.finish_reason, len(sequence.tokens)) == ("length", model.max_length - 1)
    assert sequence.tokens == naive_generate(model, source, free, 0)
    with pytest.raises(IngotError) as error:
        generate(model, [[*source, 5]], free)
    assert (error.value.code, error.value.details["limit"]) == ("source-too-long", model.max_length)
    for wrong, code in (([], "empty-prompt"), ([340], "token-outside")):
        with pytest.raises(IngotError) as error:
            generate(model, [wrong], free)
        assert error.value.code == code


def answer(model: LanguageModel, **controls: Any) -> Sequence:
    return generate(model, prompts([6]), Sampling(**{"seed": 3, "max_tokens": 6} | controls))[0]


def test_first_and_last_tokens_are_forced(tiny_pair: Tiny) -> None:
    """The last one only where no more tokens fit, which is no end of the text; a request may forbid it."""
    model = tiny_pair("bart")
    for controls in ({}, {"temperature": 0}, {"logit_bias": {9: -100.0, 0: -100.0}, "top_k": 1}):
        cut = answer(model, **controls)
        assert (cut.tokens[0], cut.tokens[-1], len(cut.tokens)) == (9, 0, 6)
        assert (cut.finish_reason, cut.stop_reason) == ("length", None)
    assert answer(model, ignore_eos=True).tokens[-1] != 0
    assert answer(model, min_tokens=6).tokens[-1] != 0
    early = answer(model, logit_bias={0: 100.0})
    assert (early.tokens, early.finish_reason, early.stop_reason) == ([9, 0], "stop", 0)
    plain = tiny_pair("bart", forced_bos_token_id=None, forced_eos_token_id=None)
    assert answer(plain, temperature=0).tokens[0] != 9


def test_generation_config_speaks_before_config(tiny_pair: Tiny, tmp_path: Path) -> None:
    """Banned tokens are never drawn, an end token stays one."""
    base = tiny_pair("marian")
    favourite = answer(base, temperature=0).tokens[0]
    shutil.copytree(base.model_dir.path, tmp_path / "m")
    wanted = {"decoder_start_token_id": 7, "forced_bos_token_id": [8], "bad_words_ids": [[favourite], [0], [5, 6]],
              "suppress_tokens": [11], "eos_token_id": [0, 3], "num_beams": 4, "min_length": 0}  # fmt: skip
    (tmp_path / "m" / "generation_config.json").write_text(json.dumps(wanted))
    found = load(tmp_path / "m").generation
    assert (found.start_id, found.forced_first, found.forced_last) == (7, 8, 0)
    assert (found.eos_ids, found.banned_ids) == ({0, 3}, {favourite, 11})
    assert found.ignored == ("num_beams", "bad_words_ids")
    del wanted["forced_bos_token_id"], wanted["decoder_start_token_id"]
    (tmp_path / "m" / "generation_config.json").write_text(json.dumps(wanted))
    model = load(tmp_path / "m")
    said = answer(model, temperature=0, max_tokens=20)
    assert favourite not in said.tokens
    assert said.tokens == naive_generate(model, prompts([6])[0], said.sampling, said.seed)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [({"decoder_start_token_id": None}, "no-decoder-start", "decoder_start_token_id"),
     ({"decoder_start_token_id": 340}, "token-outside", "decoder_start_token_id has token id 340"),
     ({"forced_bos_token_id": "a"}, "config-not-supported", "forced_bos_token_id is 'a'"),
     ({"forced_eos_token_id": [1, 2]}, "config-not-supported", r"forced_eos_token_id is \[1, 2\]")],
)  # fmt: skip
def test_directories_that_cannot_be_followed_are_refused(
    sentinel_dir: Path, tmp_path: Path, changes: dict[str, Any], code: str, words: str
) -> None:
    config = ENCODER_DECODERS["t5"] | {"vocab_size": 340}
    path = write_model(tmp_path / "m", config, 0, sentinel_dir, **changes)
    with pytest.raises(IngotError, match=words) as error:
        ingot.generate(str(path), prompt="a")
    assert error.value.code == code


def test_what_is_not_followed_is_told(
    tiny_pair: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tiny_pair("t5", num_beams=4, no_repeat_ngram_size=3).model_dir.path)
    assert main(["generate", path, "--prompt", "a", "--max-tokens", "2"]) == 0
    assert "num_beams, no_repeat_ngram_size" in capsys.readouterr().err
    assert main(["generate", str(tiny_pair().model_dir.path), "--prompt", "a", "--max-tokens", "2"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_the_verb_reads_a_text_with_its_end(tiny_pair: Tiny, tmp_path: Path) -> None:
    """Alone and from a file, in text and in tokens."""
    model = tiny_pair()
    lines = ["the cat", "天空是藍色的", "hello world " * 3]
    (tmp_path / "p.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = str(model.model_dir.path)
    found = ingot.generate(path, prompts_file=tmp_path / "p.txt", seed=3, max_tokens=10, slots=2)
    for line, asked, sequence in zip(lines, found.prompts, found.sequences, strict=True):
        assert asked.ids == [*model.tokenizer.encode(line), model.tokenizer.eos_id]
        assert sequence.tokens == naive_generate(model, asked.ids, sequence.sampling, 3)
        assert ingot.generate(path, prompt=line, seed=3, max_tokens=10).texts == [sequence.text]
        assert generate(model, [line], sequence.sampling)[0].tokens == sequence.tokens


def test_encoders_are_refused_by_name(sentinel_dir: Path, tmp_path: Path) -> None:
    path = str(write_model(tmp_path / "m", BERT | {"vocab_size": 340}, 0, sentinel_dir))
    for verb, options in ((ingot.generate, {"prompt": "a"}), (ingot.chat, {}), (ingot.serve, {"port": 0})):
        with pytest.raises(IngotError, match=r"bert\) is an encoder") as error:
            verb(path, **options)
        assert error.value.code == "does-not-write"


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_verify_repeats_the_checks_on_both_sides(tiny_pair: Tiny, family: str) -> None:
    assert "logits" in ingot.verify(tiny_pair(family).model_dir.path).checks
