"""Likelihoods against one-by-one loops and definitions."""

import math
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot import IngotError
from ingot.adapt.load import LanguageModel
from ingot.infer import likelihood as module
from ingot.infer.likelihood import _windows, batch_logprobs, compare_models, sliding_window, token_logprobs

Tiny = Callable[..., LanguageModel]


def row(length: int, seed: int = 0) -> list[int]:
    chooser = random.Random(seed)
    return [chooser.randrange(320) for _ in range(length)]


def naive_logprob(model: LanguageModel, before: list[int], token: int) -> float:
    return float(model.logits([before])[0, -1].double().log_softmax(-1)[token])


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_token_logprobs_equal_a_loop_over_prefixes(tiny: Tiny, family: str) -> None:
    model, ids = tiny(family), row(30)
    expected = [naive_logprob(model, ids[:t], ids[t]) for t in range(1, len(ids))]
    assert token_logprobs(model, ids).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_rows_together_equal_rows_alone(tiny: Tiny, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding, groups of several rows and logits in small pieces change nothing beyond rounding."""
    model = tiny(family)
    rows = [row(length, length) for length in (30, 2, 1, 129, 0, 7, 64, 64, 3)]
    alone = [token_logprobs(model, ids) for ids in rows]
    for tokens, logits in ((2048, 1 << 23), (130, 320 * 11), (1, 1)):
        monkeypatch.setattr(module, "TOKENS_AT_ONCE", tokens)
        monkeypatch.setattr(module, "LOGITS_AT_ONCE", logits)
        together = batch_logprobs(model, rows)
        assert [len(found) for found in together] == [29, 1, 0, 128, 0, 6, 63, 63, 2]
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 20), st.data())
def test_windows_score_every_token_once_with_the_context_promised(
    length: int, window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window))
    ids = list(range(length))
    scored = []
    for part in _windows(ids, window, stride):
        assert len(part.ids) <= window
        for token in part.targets:
            context = token - part.ids[0]
            assert context >= min(token, window - stride + 1)
            scored.append(token)
    assert scored == list(range(1, length))


@pytest.mark.parametrize(("window", "stride"), [(16, 16), (16, 5), (16, 1), (1, 1), (128, 64)])
def test_sliding_window_equals_a_naive_loop(tiny: Tiny, window: int, stride: int) -> None:
    model, ids = tiny(), row(150)
    expected = []
    for t in range(1, len(ids)):
        number = max(0, math.ceil((t - window) / stride))
        expected.append(naive_logprob(model, ids[number * stride : t], ids[t]))
    found = sliding_window(model, ids, window, stride)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_a_window_as_long_as_the_text_is_the_whole_text(tiny: Tiny) -> None:
    torch.testing.assert_close(sliding_window(tiny(), row(100)), token_logprobs(tiny(), row(100)), atol=1e-5, rtol=0)
    assert sliding_window(tiny(), [5]).shape == sliding_window(tiny(), []).shape == (0,)


def test_rows_of_full_window_can_be_scored_and_longer_ones_are_refused(tiny: Tiny) -> None:
    assert len(token_logprobs(tiny(), row(129))) == 128
    with pytest.raises(IngotError, match="row 2 would make the model read 129 tokens, and its window is 128"):
        batch_logprobs(tiny(), [row(5), row(130)])


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (8, 9), (8, 0), (129, 1)])
def test_windows_that_cannot_be_are_refused(tiny: Tiny, window: int, stride: int) -> None:
    with pytest.raises(IngotError) as error:
        sliding_window(tiny(), row(20), window, stride)
    assert error.value.code == "bad-window"


def test_tokens_outside_the_vocabulary_are_refused(tiny: Tiny) -> None:
    with pytest.raises(IngotError, match=r"row 1 has token id 320"):
        token_logprobs(tiny(), [1, 320])


def test_comparing_two_models_follows_the_definitions(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = tiny(), tiny(seed=1)
    rows = [row(20, 1), row(1, 2), row(33, 3)]
    p, q = (
        torch.cat([model.logits([ids])[0, :-1].double().log_softmax(-1) for ids in rows if len(ids) > 1])
        for model in (a, b)
    )
    targets = torch.tensor([token for ids in rows for token in ids[1:]])
    kl = (p.exp() * (p - q)).sum(-1)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 320 * 5)
    found = compare_models(a, b, rows)
    assert found.num_tokens == 51
    assert (found.kl_mean, found.kl_max) == pytest.approx((kl.mean().item(), kl.max().item()), abs=1e-4)
    assert found.kl_stderr == pytest.approx(kl.std(correction=0).item() / math.sqrt(51), abs=1e-4)
    assert found.top1_agreement == pytest.approx((p.argmax(-1) == q.argmax(-1)).double().mean().item())
    assert found.nll_a == pytest.approx(-p.gather(-1, targets[:, None]).sum().item(), abs=1e-3)
    assert found.nll_b == pytest.approx(-q.gather(-1, targets[:, None]).sum().item(), abs=1e-3)


def test_a_model_does_not_differ_from_itself(tiny: Tiny) -> None:
    found = compare_models(tiny(), tiny(), [row(40)])
    assert (found.kl_mean, found.kl_max, found.top1_agreement, found.nll_a - found.nll_b) == (0, 0, 1, 0)


def test_what_cannot_be_compared_is_refused(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> None:
    from ingot.adapt.load import load
    from tiny import LLAMA, write_model

    other = load(write_model(tmp_path_factory.mktemp("other") / "m", LLAMA, vocab_size=300))
    with pytest.raises(IngotError, match="320"):
        compare_models(tiny(), other, [row(5)])
    with pytest.raises(IngotError, match="nothing to score"):
        compare_models(tiny(), tiny(), [[3], []])
