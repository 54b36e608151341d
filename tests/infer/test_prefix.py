"""Decoders that read a prompt in both directions: the engine, likelihood and the looking glass agree with training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mixed import MIXED, prompts, run
from naive import naive_generate
from test_reader import watched

from ingot import IngotError
from ingot.adapt.load import LanguageModel, load
from ingot.data.objectives.prefix_lm import split_rows
from ingot.data.pack import Batch
from ingot.evaluate.context.passkey import likelihood
from ingot.infer import likelihood as scoring
from ingot.infer.engine import Engine, generate
from ingot.infer.inspection.capture import SELF, look
from ingot.infer.likelihood import Query, batch_logprobs, compare_models, following, query_logprobs, sliding_window
from ingot.infer.sampling import Sampling
from ingot.train.loss import Inputs, _hidden
from tiny import BERT, CONFIGS, T5, write_model

Tiny = Callable[..., LanguageModel]
FAMILIES = sorted(CONFIGS)


@torch.no_grad()
def trained_logits(model: LanguageModel, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """(T, V) of prompt and answer by the path of training: a lesson of prefix-lm whose targets are the answer."""
    ids = np.asarray([[*prompt, *answer]], np.int32)
    batch = Batch(ids, np.zeros_like(ids), np.arange(ids.size)[None] >= len(prompt), np.arange(1))
    lesson = split_rows(batch, np.random.default_rng(0), answer=True)
    assert lesson.prefix_BT is not None
    assert lesson.prefix_BT.sum() == len(prompt)
    return model.network.head(_hidden(model.network, Inputs.of(lesson, torch.device("cpu"))))[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_training(tiny_prefix: Tiny, family: str) -> None:
    """Of a prompt longer than any window of the model, and of 20 tokens behind it; from left to right they differ."""
    model, (prompt,) = tiny_prefix(family), prompts([40])
    tokens, found = watched(Engine(model, 2), prompt, Sampling(seed=1, max_tokens=20, ignore_eos=True))
    expected = trained_logits(model, prompt, tokens)[len(prompt) - 1 : -1]
    assert (found - expected).abs().max() < 1e-5
    assert (model.logits([prompt + tokens])[0, len(prompt) - 1 : -1] - expected).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "bloom", "gemma3"])
@pytest.mark.parametrize("num_slots", [1, 3, 8])
def test_tokens_equal_the_naive_loop(tiny_prefix: Tiny, family: str, num_slots: int) -> None:
    """Alone or among strangers whose prompts are shorter and longer, at the beginning and in the middle of theirs."""
    model = tiny_prefix(family)
    for prompt, sampling, sequence in zip(prompts(), MIXED, generate(model, prompts(), MIXED, num_slots), strict=True):
        assert sequence.tokens == naive_generate(model, prompt, sampling, sequence.seed)


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_prefix_is_never_read_in_pieces(tiny_prefix: Tiny, family: str) -> None:
    """Though a step reads no more than 7 tokens of other prompts."""
    whole = generate(tiny_prefix(family), prompts(), MIXED)
    engine = Engine(tiny_prefix(family), num_slots=5, prefill_tokens=7)
    apart = [engine.submit(prompt, own) for prompt, own in zip(prompts(), MIXED, strict=True)]
    run(engine)
    assert [each.tokens for each in apart] == [each.tokens for each in whole]


@torch.no_grad()
def scores(model: LanguageModel, query: Query) -> list[float]:
    """log p of what is asked, what stands before it as a prefix, by the path of training."""
    ids, first = [*query.ids, query.targets[-1]], query.places[0] + 1
    logprobs = trained_logits(model, ids[:first], ids[first:]).log_softmax(-1)
    return [float(logprobs[at - 1, ids[at]]) for at in range(first, len(ids))]


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_likelihood_reads_the_context_in_both_directions(tiny_prefix: Tiny, family: str) -> None:
    """Rows of several contexts in one batch; a text on its own has a context of one token, its start."""
    model = tiny_prefix(family)
    rows = [following(ids, first) for ids, first in zip(prompts([30, 12, 33, 8]), (20, 1, 7, 7), strict=True)]
    for row, found in zip(rows, query_logprobs(model, rows), strict=True):
        assert found.tolist() == pytest.approx(scores(model, row), abs=1e-5)
    whole = [*rows[0].ids, rows[0].targets[-1]]
    causal = model.logits([whole])[0].log_softmax(-1)
    (alone,) = batch_logprobs(model, [whole])
    assert alone.tolist() == pytest.approx([float(causal[n, t]) for n, t in enumerate(whole[1:])], abs=1e-5)
    assert abs(float(alone[19:].sum()) - sum(scores(model, rows[0]))) > 1e-3


def test_sliding_windows_read_what_they_do_not_score_in_both_directions(tiny_prefix: Tiny) -> None:
    model, (ids,) = tiny_prefix(), prompts([150])
    expected = [value for row in scoring._windows(ids, 64, 32) for value in scores(model, row)]
    assert sliding_window(model, ids, 64, 32).tolist() == pytest.approx(expected, abs=1e-4)
    assert compare_models(model, model, [ids[:100]]).kl_max == 0


def test_passkeys_are_looked_for_in_the_whole_prompt(tiny_prefix: Tiny) -> None:
    """Also beyond what is read at once of other models."""
    model = tiny_prefix(length=1024)
    (prompt,), candidates = prompts([700]), prompts([5, 5, 5], seed=1)
    expected = [sum(scores(model, following([*prompt, *candidate], len(prompt)))) for candidate in candidates]
    assert likelihood(model)(prompt, candidates) == pytest.approx(expected, abs=1e-3)


def test_maps_show_both_directions(tiny_prefix: Tiny, tiny: Tiny) -> None:
    (ids,) = prompts([9])
    for model, ahead in ((tiny_prefix(), True), (tiny(), False)):
        maps = look(model.network, ids).attention[SELF]
        assert all((float(weights.triu(1).max()) > 0) == ahead for weights in maps)
    seen = look(tiny_prefix().network, ids)
    assert torch.allclose(seen.lens[-1], tiny_prefix().logits([ids], prefix=9)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("config", "value"), [(BERT, True), (T5, True), (CONFIGS["llama"], "yes"), (CONFIGS["llama"], 2)]
)
def test_only_a_decoder_can_say_so_and_only_yes_or_no(config: dict[str, Any], value: object, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="prefix_lm is") as error:
        write_model(tmp_path / "m", config, prefix_lm=value)
    assert error.value.code == "config-not-supported"
    assert not load(write_model(tmp_path / "n", config, prefix_lm=False)).config.prefix_lm
