"""Fillers of a gap against loops that ask one token at a time, without batches, for every kind of network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ingot import IngotError
from ingot.adapt.load import LanguageModel, load
from ingot.infer import likelihood
from ingot.infer.gap import Gap, GapIds, asker, gap_ids, gap_scores
from ingot.infer.likelihood import Query, query_logprobs
from ingot.text.tokenizer import Tokenizer
from tiny import BART, BERT, GPT2, LLAMA, MISTRAL, MODERNBERT, ROBERTA, T5, write_model, write_tokenizer

SPECIAL = ("<|mask|>", "<extra_id_0>", "<extra_id_1>")
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA, "mistral": MISTRAL, "gpt2": GPT2, "bert": BERT, "roberta": ROBERTA, "modernbert": MODERNBERT,
    "t5": T5, "bart": BART,
}  # fmt: skip
GAPS = [
    Gap("the cat sat on the ", ("mat", "dog", "hello world"), " and ran."),
    Gap("", ("The dog", "A", "the man"), " sat on the mat."),
    Gap("天空是", ("藍色", "綠色", "天"), "的，草地是綠色的。"),
    Gap("天空是藍色的，草地是", ("綠色的。", "藍色"), ""),
    Gap("1 + 2 = ", ("3", "33"), "."),
]


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("gap") / "tok", SPECIAL)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> dict[str, LanguageModel]:
    folder = tmp_path_factory.mktemp("gap")
    return {name: load(write_model(folder / name, config, 3, tokenizer_dir)) for name, config in CONFIGS.items()}


def logprob(model: LanguageModel, ids: list[int], place: int, token: int, source: list[int] | None = None) -> float:
    """One row, one place, one token, in double precision."""
    logits = model.logits([ids], None if source is None else [source])[0, place]
    return float(logits.double().log_softmax(-1)[token])


def naive(model: LanguageModel, ids: GapIds, inside: tuple[int, ...]) -> float:
    """The definitions, spelt out."""
    tokenizer, form = model.tokenizer, model.config.model_type
    before, middle, after, eos = list(ids.before), list(inside), list(ids.after), tokenizer.id("<|endoftext|>")
    mask, first, second = (tokenizer.id(token) for token in SPECIAL)
    assert eos is not None and mask is not None and first is not None and second is not None  # noqa: PT018
    total = 0.0
    if form in ("llama", "mistral", "gpt2"):
        text = [eos, *before, *middle, *after]
        return sum(logprob(model, text[:at], -1, text[at]) for at in range(1, len(text)))
    if form in ("bert", "roberta", "modernbert"):
        for at in range(len(middle)):
            hidden = middle[:at] + [mask] * (len(middle) - at)
            row = [eos, *before, *hidden, *after, eos]
            total += logprob(model, row, 1 + len(before) + at, middle[at])
        return total
    source = [*before, first, *after, eos]
    written = [model.model_dir.config["decoder_start_token_id"], first]
    for token in [*middle, second]:
        total += logprob(model, written, -1, token, source)
        written.append(token)
    return total


@pytest.mark.parametrize("family", list(CONFIGS))
def test_scores_are_those_of_a_naive_loop(models: dict[str, LanguageModel], family: str) -> None:
    model = models[family]
    for gap, scores in zip(GAPS, gap_scores(model, GAPS), strict=True):
        ids = gap_ids(model.tokenizer, gap)
        expected = [naive(model, ids, inside) for inside in ids.insides]
        assert scores.nats == pytest.approx(expected, abs=2e-5)


def test_only_a_decoder_is_judged_from_the_left(models: dict[str, LanguageModel]) -> None:
    model = models["llama"]
    for gap, scores in zip(GAPS, gap_scores(model, GAPS), strict=True):
        ids = gap_ids(model.tokenizer, gap)
        cut = [naive(model, GapIds(ids.before, ids.insides, ()), inside) for inside in ids.insides]
        assert scores.left == pytest.approx(cut, abs=2e-5)
        assert ids.after == () or all(nats < left for nats, left in zip(scores.nats, scores.left or [], strict=True))
    for family in ("bert", "t5"):
        assert {scores.left for scores in gap_scores(models[family], GAPS)} == {None}


@pytest.mark.parametrize("family", ["gpt2", "bert", "modernbert", "t5", "bart"])
def test_no_batch_size_changes_a_score(
    models: dict[str, LanguageModel], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for tokens, logits in ((1, 1), (40, 320 * 3), (1 << 20, 1 << 23)):
        monkeypatch.setattr(likelihood, "TOKENS_AT_ONCE", tokens)
        monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", logits)
        found.append([nats for scores in gap_scores(models[family], GAPS) for nats in scores.nats])
    assert found[1] == pytest.approx(found[0], abs=2e-5)
    assert found[2] == pytest.approx(found[0], abs=2e-5)


def test_fillers_that_are_the_same_tokens_score_the_same_to_the_last_bit(
    models: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a tokenizer does that loses what tells them apart."""
    monkeypatch.setattr("ingot.infer.gap.gap_ids", lambda *_: GapIds((9, 9), ((20, 30), (20, 30), (31,)), (9,)))
    for family in ("gpt2", "bert", "t5"):
        (scores,) = gap_scores(models[family], GAPS[:1])
        assert scores.nats[0] == scores.nats[1] != scores.nats[2]


def test_all_fillers_share_their_surroundings(tokenizer_dir: Path) -> None:
    """Outside are the same tokens for all, inside the whole filler, and together they are the text as it is encoded."""
    tokenizer = Tokenizer.open(tokenizer_dir)
    for gap in GAPS:
        ids = gap_ids(tokenizer, gap)
        for filler, inside in zip(gap.fillers, ids.insides, strict=True):
            assert [*ids.before, *inside, *ids.after] == tokenizer.encode(gap.before + filler + gap.after)
            assert filler in tokenizer.decode(inside)


def test_a_token_that_reaches_into_one_filler_widens_the_gap_of_all(tokenizer_dir: Path) -> None:
    """ " mat" begins with the space before it, so the space belongs to the gap of "!" too; nothing further does."""
    tokenizer = Tokenizer.open(tokenizer_dir)
    for fillers in (("mat", "!"), ("!", "mat")):
        ids = gap_ids(tokenizer, Gap("on the ", fillers, "."))
        assert tokenizer.decode(ids.before) == "on the"
        assert [tokenizer.decode(inside) for inside in ids.insides] == [f" {filler}" for filler in fillers]
        assert tokenizer.decode(ids.after) == "."
        assert ids.widened == 1
    for fillers in (("t", "!"), ("!", "t")):
        ids = gap_ids(tokenizer, Gap("", fillers, "he man"))
        assert [tokenizer.decode(inside) for inside in ids.insides] == [f"{filler}he" for filler in fillers]
        assert tokenizer.decode(ids.after) == " man"
        assert ids.widened == 2


def test_fillers_may_begin_and_end_alike(tokenizer_dir: Path) -> None:
    """Tokens that fillers have in common are still theirs, not their surroundings'."""
    tokenizer = Tokenizer.open(tokenizer_dir)
    ids = gap_ids(tokenizer, Gap("1 + 2 = ", ("1950", "1960", "1950."), "."))
    assert [tokenizer.decode(inside).strip() for inside in ids.insides] == ["1950", "1960", "1950."]
    assert ids.widened == len(tokenizer.decode(ids.insides[0])) - 4


def strip(directory: Path, out: Path, *tokens: str) -> Path:
    """A copy whose tokenizer has other tokens in the place of some."""
    shutil.copytree(directory, out)
    text = (out / "tokenizer.json").read_text()
    for token in tokens:
        text = text.replace(json.dumps(token), json.dumps(f"other{token[2:-1]}"))
    (out / "tokenizer.json").write_text(text)
    config = json.loads((out / "tokenizer_config.json").read_text())
    (out / "tokenizer_config.json").write_text(json.dumps({"pad_token": config["pad_token"]}))
    return out


@pytest.mark.parametrize(
    ("form", "tokens", "missing"),
    [
        ("encoder", ["<|mask|>"], "<|mask|>"),
        ("encoder-decoder", ["<extra_id_0>", "<extra_id_1>"], "<extra_id_0>,<extra_id_1>"),
        ("encoder-decoder", ["<extra_id_1>"], "<extra_id_1>"),
        ("decoder", [], "bos_token, eos_token"),
    ],
)
def test_what_a_tokenizer_lacks_is_named(
    tokenizer_dir: Path, tmp_path: Path, form: Any, tokens: list[str], missing: str
) -> None:
    bare = strip(tokenizer_dir, tmp_path / "bare", *tokens)
    if form != "decoder":
        (bare / "tokenizer_config.json").write_text((tokenizer_dir / "tokenizer_config.json").read_text()
            if not tokens else json.dumps({"pad_token": "<|pad|>", "eos_token": "<|endoftext|>"}))  # fmt: skip
    with pytest.raises(IngotError) as error:
        asker(Tokenizer.open(bare), form)
    assert error.value.code == "gap-lacks-tokens"
    assert error.value.details["missing"] == missing
    assert "bare" in str(error.value)
    assert asker(Tokenizer.open(tokenizer_dir), form)


def test_a_text_longer_than_the_window_is_named(models: dict[str, LanguageModel]) -> None:
    for family in ("llama", "bert", "t5"):
        window = models[family].max_length
        around = {"llama": 1, "bert": 3, "t5": 2}[family]
        fits = Gap("x" * (window - around), ("1", "2"), "")
        assert len(gap_scores(models[family], [*GAPS, fits])) == len(GAPS) + 1
        with pytest.raises(IngotError, match=f"takes {window + 1} tokens and the model's window is {window}") as error:
            gap_scores(models[family], [*GAPS, Gap("x" + fits.before, fits.fillers, "")])
        assert error.value.code == "gap-too-long"
        assert "xxx..." in str(error.value)


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_only_decoders_say_how_likely_a_text_is(models: dict[str, LanguageModel], family: str) -> None:
    for ask in (
        lambda: likelihood.batch_logprobs(models[family], [[1, 2, 3]]),
        lambda: likelihood.sliding_window(models[family], [1, 2, 3]),
        lambda: likelihood.compare_models(models["llama"], models[family], [[1, 2, 3]]),
    ):
        with pytest.raises(IngotError) as error:
            ask()
        assert error.value.code == "not-a-decoder"


def test_an_encoder_decoder_needs_something_to_read(models: dict[str, LanguageModel]) -> None:
    with pytest.raises(IngotError) as error:
        query_logprobs(models["t5"], [Query((0,), (0,), (5,))])
    assert error.value.code == "no-source"
