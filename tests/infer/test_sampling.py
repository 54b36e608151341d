"""The samplers against a float64 reference, their invariants, and refused values."""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed import CONTROLS, PLAIN
from reference_sampling import distribution

from cases import first_fast
from ingot import IngotError
from ingot.adapt.load import LanguageModel
from ingot.infer.controls import Controls, Request
from ingot.infer.engine import generate
from ingot.infer.sampling import NO_TOKEN, SAMPLERS, Sampling, draw, process, sample, surprise, truncation, uniform
from ingot.infer.sampling.state import Counts
from ingot.infer.uniform import XTC

LOGITS = torch.tensor([1.2, -0.7, 3.1, 0.0, 2.2, -2.5, 2.2, 0.4, 1.9, -1.1, 0.9, 2.2], dtype=torch.float32)
PROMPT, ANSWER, EOS = [2, 2, 5], [4, 4, 8], frozenset({6})
DRAWS = 50_000

CASES: dict[str, dict[str, object]] = {
    "plain": {},
    "temperature": {"temperature": 0.6},
    "hot": {"temperature": 3.0},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.7},
    "min_p": {"min_p": 0.3},
    "typical": {"typical_p": 0.6},
    "top_n_sigma": {"top_n_sigma": 0.8},
    "xtc": {"xtc_probability": 0.4, "xtc_threshold": 0.1},
    "dynatemp": {"temperature": 0.9, "dynatemp_range": 0.6, "dynatemp_exponent": 1.5},
    "mirostat": {"mirostat": 2, "mirostat_tau": 1.3},
    "repetition": {"repetition_penalty": 1.7},
    "presence": {"presence_penalty": 1.5},
    "frequency": {"frequency_penalty": -0.8},
    "window": {"repetition_penalty": 1.7, "frequency_penalty": 0.5, "penalty_last_n": 2},
    "dry": {"dry_multiplier": 0.8},
    "bias": {"logit_bias": {5: 4.0, 2: -100.0}},
    "allowed": {"allowed_token_ids": [0, 3, 4, 6, 7]},
    "bad_words": {"bad_words": ["x"]},
    "min_tokens": {"min_tokens": 4},
    "temperature+top_k+top_p": {"temperature": 1.4, "top_k": 6, "top_p": 0.9},
    "top_p+min_p": {"top_p": 0.95, "min_p": 0.15},
    "penalties": {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.4},
    "penalties+temperature+top_p": {"repetition_penalty": 0.8, "temperature": 0.7, "top_p": 0.8},
    "bias+top_k": {"logit_bias": {0: 2.0}, "top_k": 4, "temperature": 2.0},
    "dry+top_n_sigma+xtc": {"dry_multiplier": 2.0, "top_n_sigma": 1.5, "xtc_probability": 0.7, "xtc_threshold": 0.05},
    "dynatemp+typical+min_p": {"dynatemp_range": 1.0, "typical_p": 0.8, "min_p": 0.1},
    "mirostat+temperature+top_k": {"mirostat": 2, "mirostat_tau": 1.1, "temperature": 1.7, "top_k": 9},
    "everything": {"temperature": 1.2, "top_k": 7, "top_p": 0.95, "min_p": 0.05, "presence_penalty": 0.3,
                   "repetition_penalty": 1.2, "frequency_penalty": 0.1, "logit_bias": {9: 1.0}, "min_tokens": 9,
                   "typical_p": 0.95, "top_n_sigma": 2.5, "xtc_probability": 0.5, "dry_multiplier": 0.5,
                   "dynatemp_range": 0.3, "bad_words": ["x"], "mirostat": 2, "mirostat_tau": 1.6},
}  # fmt: skip
REPEATS, FORBIDDEN = {4: 0.8, 8: 1.4}, [2, 9]
"""What the sequence would say where a case asks for DRY or bad words."""


def remembered(own: Sampling) -> dict[str, Any]:
    return {
        "bias": own.logit_bias,
        "repeats": REPEATS if own.dry_multiplier else {},
        "forbidden": FORBIDDEN if own.bad_words else [],
        "mu": 2 * own.mirostat_tau if own.mirostat else math.inf,
    }


def request(own: Sampling, seed: int = 0, answer: list[int] = ANSWER, prompt: list[int] = PROMPT) -> Request:
    counts = Counts(prompt, own.penalty_last_n)
    for token in answer:
        counts.push(token)
    given = remembered(own)
    given["forbidden"] = [np.asarray(given["forbidden"], dtype=np.int64)]
    return Request(own, seed, len(answer), counts.seen, EOS, allowed=own.allowed_token_ids, **given)


def expected(own: Sampling, logits: torch.Tensor = LOGITS, xtc: bool | None = None) -> np.ndarray:
    values = logits.numpy().astype(np.float64)
    return distribution(values, own, PROMPT, ANSWER, set(EOS), **remembered(own), xtc=xtc)


@functools.cache
def numbers() -> torch.Tensor:
    return torch.tensor([uniform(seed, len(ANSWER)) for seed in range(DRAWS)], dtype=torch.float64)


@functools.cache
def xtc_acts(probability: float) -> torch.Tensor:
    return torch.tensor([uniform(seed, len(ANSWER), XTC) < probability for seed in range(DRAWS)])


@first_fast("company", ["among strangers", "alone"])
@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_reference_distribution(name: str, company: str) -> None:
    """Chi-squared over the draws of 50,000 seeds, alone or in batches whose other rows have other parameters."""
    own = Sampling.of(**CASES[name])
    others = [Sampling.of(**case) for case in CASES.values()] if company == "among strangers" else []
    acts = xtc_acts(own.xtc_probability)
    processed = torch.empty(DRAWS, len(LOGITS))
    for acting in {bool(acts[0]), bool(acts[-1]), *acts.unique().tolist()}:
        seed = int((acts == acting).nonzero()[0])
        rows = [*map(request, others), request(own, seed)]
        controls = Controls.of(rows, LOGITS.device)
        processed[acts == acting] = process(LOGITS.expand(len(rows), -1), controls)[-1]
    counts, shares = np.zeros(len(LOGITS)), expected(own)
    np.add.at(counts, draw(processed, numbers()).numpy(), 1)
    assert counts[shares == 0].sum() == 0
    possible = shares > 0
    statistic = float((((counts - DRAWS * shares) ** 2)[possible] / (DRAWS * shares[possible])).sum())
    assert statistic < chi_squared_bound(int(possible.sum()) - 1)


@pytest.mark.parametrize("size", [128, 300, 1024])
def test_draws_over_many_blocks_invert_the_cumulative_distribution(size: int) -> None:
    """Every uniform number gives the token of one running sum in float64, but for those within 1e-6 of a border."""
    logits = torch.randn(size, generator=torch.Generator().manual_seed(size)) * 3
    logits[: size // 3 : 2] = -torch.inf
    found = draw(logits.expand(DRAWS, -1), numbers()).numpy()
    shares = logits.double().softmax(-1).numpy()
    for shift in (-1e-6, 1e-6):
        near = np.searchsorted(np.cumsum(shares), np.clip(numbers().numpy() + shift, 0, 1 - 1e-9), side="right")
        assert (found >= near).all() if shift < 0 else (found <= near).all()
    assert (shares[found] > 0).all()


@pytest.mark.parametrize("mode", ["raw", "processed"])
def test_logprobs_are_a_distribution_that_holds_the_chosen_token(tiny: Callable[..., LanguageModel], mode: str) -> None:
    """Alternatives sum to at most 1, the chosen token is among them where they are all there is, raw ones do not depend
    on how tokens are drawn, processed ones do."""
    model = tiny()
    plain = Sampling.of(seed=4, max_tokens=12, logprobs=64, logprobs_mode=mode, ignore_eos=True)
    few = plain.model_copy(update={"top_k": 20, "temperature": 0.5, "xtc_probability": 0.5})
    for own in (plain, few):
        (sequence,) = generate(model, ["the cat"], own)
        for token in sequence.logprobs or []:
            values = dict(token.alternatives)
            assert sum(map(math.exp, values.values())) <= 1 + 1e-5
            assert values.get(token.token_id, token.logprob) == pytest.approx(token.logprob, abs=1e-6)
            if own is few and mode == "processed":
                assert token.token_id in values
                assert sum(map(math.exp, values.values())) == pytest.approx(1, abs=1e-5)
        logits = model.logits([[*model.tokenizer.encode("the cat"), *sequence.tokens]])[0]
        before = len(model.tokenizer.encode("the cat")) - 1
        taken = [float(logits[before + at].log_softmax(-1)[token]) for at, token in enumerate(sequence.tokens)]
        found = [token.logprob for token in sequence.logprobs or []]
        assert (found == pytest.approx(taken, abs=1e-3)) == (mode == "raw" or own is plain)


def chi_squared_bound(freedom: int) -> float:
    """The value that a chi-squared variable passes with probability 0.001 (Wilson and Hilferty 1931)."""
    if freedom == 0:
        return 1e-9
    return freedom * (1 - 2 / (9 * freedom) + 3.0902 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize("name", CASES)
def test_kept_tokens_and_probabilities_equal_the_reference(name: str) -> None:
    own = Sampling.of(**CASES[name])
    for seed in range(4):
        _, processed = sample(LOGITS[None].clone(), [request(own, seed)])
        acts = uniform(seed, len(ANSWER), XTC) < own.xtc_probability
        assert np.allclose(processed[0].double().softmax(-1).numpy(), expected(own, xtc=acts), atol=1e-6)


ENTRIES = {
    "temperature": ({"temperature": 0.5}, "temperature"),
    "top_k": ({"top_k": 2}, "top_k"),
    "top_p": ({"top_p": 0.5}, "top_p"),
    "min_p": ({"min_p": 0.5}, "min_p"),
    "typical_p": ({"typical_p": 0.5}, "typical_p"),
    "top_n_sigma": ({"top_n_sigma": 0.5}, "top_n_sigma"),
    "xtc_probability": ({"xtc_probability": 1.0}, "xtc"),
    "dynatemp_range": ({"dynatemp_range": 0.5}, "dynatemp"),
    "mirostat": ({"mirostat": 2, "mirostat_tau": 1.0}, "mirostat"),
    "repetition_penalty": ({"repetition_penalty": 2.0}, "repetition_penalty"),
    "presence_penalty": ({"presence_penalty": 1.0}, "presence_frequency_penalty"),
    "frequency_penalty": ({"frequency_penalty": 1.0}, "presence_frequency_penalty"),
    "dry_multiplier": ({"dry_multiplier": 1.0}, "dry"),
    "logit_bias": ({"logit_bias": {1: 3.0}}, "logit_bias"),
    "allowed_token_ids": ({"allowed_token_ids": [1, 2]}, "allowed"),
    "bad_words": ({"bad_words": ["x"]}, "bad_words"),
    "min_tokens": ({"min_tokens": 5}, "min_tokens"),
    "constraint": ({"constraint": {"regex": "a"}}, "grammar"),
}
"""Field -> values with which it acts, and the one entry of SAMPLERS that does it."""


@pytest.mark.parametrize("field", ENTRIES)
def test_every_sampler_acts_and_has_its_own_entry(field: str) -> None:
    values, entry = ENTRIES[field]
    asked = request(Sampling.of(**values))
    if field == "constraint":  # what a matcher would say
        asked = replace(asked, grammar=np.arange(len(LOGITS)) > 2)
    controls = Controls.of([asked], LOGITS.device)
    acting = [
        name for name, sampler in SAMPLERS.items() if not torch.equal(sampler(LOGITS[None], controls), LOGITS[None])
    ]
    assert acting == [entry]
    assert {*(name for _, name in ENTRIES.values()), "banned", "forced"} == SAMPLERS.keys()


@pytest.mark.parametrize("field", Sampling.model_fields)
def test_every_control_changes_the_answer(tiny: Callable[..., LanguageModel], field: str) -> None:
    """All fields there are, in the engine: tokens, text, log-probabilities or reason to stop differ."""
    beside, changed = CONTROLS[field]
    own = [Sampling.of(**{**PLAIN, **beside, **more}) for more in ({}, changed)]
    before, after = (vars(sequence) for sequence in generate(tiny(), ["the cat"] * 2, own))
    names = ("tokens", "logprobs", "prompt_logprobs", "stop_reason", "_pieces")
    assert [before[name] for name in names] != [after[name] for name in names]


@first_fast("size", [2000, 70_001])
@first_fast("threads", [1, 2])
def test_neighbours_and_threads_change_nothing_bit_for_bit(size: int, threads: int) -> None:
    """Every row of a mixed batch equals the same request alone on one thread; the larger vocabulary is one that torch
    cuts into pieces."""
    requests = [request(Sampling.of(**case), seed=seed) for seed, case in enumerate(CASES.values())]
    logits = torch.randn(len(requests), size, generator=torch.Generator().manual_seed(3)) * 3
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        tokens, processed = sample(logits, requests)
        torch.set_num_threads(1)
        for row, alone in enumerate(requests):
            token, own = sample(logits[row : row + 1], [alone])
            assert token[0] == tokens[row]
            assert torch.equal(own[0], processed[row])
    finally:
        torch.set_num_threads(before)


def test_logits_given_are_left_as_they_are() -> None:
    logits = LOGITS[None].clone()
    sample(logits, [request(Sampling.of(**CASES["everything"]))])
    assert torch.equal(logits[0], LOGITS)


def test_greedy_top_k_one_and_tiny_top_p_agree_and_ties_go_to_the_lowest_id() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0, 5.0, 5.0]])
    samplings = (
        Sampling(temperature=0),
        Sampling(top_k=1),
        Sampling(top_p=1e-9),
        Sampling(temperature=0, top_k=3),
        Sampling(typical_p=1e-9, top_k=3),
    )
    for own in samplings:
        for seed in range(20):
            assert sample(logits, [request(own, seed, [], [])])[0].tolist() == [1]


def test_top_k_keeps_exactly_k_of_tied_tokens() -> None:
    _, processed = sample(LOGITS[None], [request(Sampling(top_k=2), answer=[], prompt=[])])
    assert processed[0].isfinite().nonzero().flatten().tolist() == [2, 4]


def test_a_tiny_temperature_does_not_overflow() -> None:
    for tiny in (1e-30, 1e-60):  # the second is no float32
        assert sample(LOGITS[None] * 1e6, [request(Sampling(temperature=tiny))])[0].tolist() == [2]


@pytest.mark.parametrize("field", ["top_p", "typical_p"])
@pytest.mark.parametrize("spread", [0.0, 0.1, 3.0, 40.0])
def test_borders_among_many_tokens_equal_the_reference(field: str, spread: float) -> None:
    """A flat distribution needs more tokens than the candidates hold; ties (a spread of 0, coarse logits) and spans
    beyond the buckets among them. Down to one token, up to all."""
    logits = torch.randn(4, 3000, generator=torch.Generator().manual_seed(0)) * spread
    logits[2] = (logits[2] * 8).round() / 8
    for p in (1e-6, 0.3, 0.9, 0.999):
        own = Sampling.of(**{field: p})
        _, processed = sample(logits, [request(own, answer=[], prompt=[])] * 4)
        for row in range(4):
            shares = distribution(logits[row].numpy().astype(np.float64), own, [], [], set())
            found = processed[row].isfinite().numpy()
            assert abs(int(found.sum()) - int((shares > 0).sum())) <= 1
            assert shares[~found].sum() < 1e-3
            if spread == 0.0:
                assert found.nonzero()[0].tolist() == list(range(int(found.sum())))


def test_few_candidates_and_many_take_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3, 400, generator=torch.Generator().manual_seed(0)) * 0.1
    requests = [request(Sampling(top_p=p), answer=[], prompt=[]) for p in (0.9, 0.02, 1.0)]
    requests += [request(Sampling(typical_p=p), answer=[], prompt=[]) for p in (0.9, 0.02, 0.5)]
    monkeypatch.setattr(truncation, "CANDIDATES", 400)
    whole = sample(logits.repeat(2, 1), requests)[1]
    monkeypatch.setattr(truncation, "CANDIDATES", 16)
    assert torch.equal(sample(logits.repeat(2, 1), requests)[1], whole)
    assert whole.isfinite().sum(-1).tolist()[2] == 400


def test_presence_and_frequency_count_the_answer_and_repetition_both() -> None:
    """Worked by hand: token 2 stands in the prompt alone, token 4 twice in the answer, token 0 nowhere."""
    own = Sampling(repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25)
    _, processed = sample(LOGITS[None], [request(own)])
    assert processed[0, [2, 4, 5, 0]].tolist() == pytest.approx([3.1 / 2, 2.2 / 2 - 0.5 - 2 * 0.25, -5.0, 1.2])


@settings(deadline=None)
@given(seed=st.integers(-(2**63), 2**63 - 1), position=st.integers(0, 2**40))
def test_uniform_is_a_function_into_the_unit_interval(seed: int, position: int) -> None:
    assert 0 <= uniform(seed, position) < 1
    assert uniform(seed, position) == uniform(seed, position)


def test_uniform_differs_by_seed_and_position() -> None:
    assert len({uniform(seed, position) for seed in range(-50, 50) for position in range(50)}) == 5000


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.floats(-20, 20, width=32), st.just(-math.inf)), min_size=1, max_size=30), st.data())
def test_draw_never_takes_a_forbidden_token(logits: list[float], data: st.DataObject) -> None:
    logits[data.draw(st.integers(0, len(logits) - 1))] = 1.0
    ends = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    tokens = draw(torch.tensor([logits] * 3), ends)
    assert all(logits[token] > -math.inf for token in tokens.tolist())


@pytest.mark.parametrize(
    "found",
    [{"temperature": -0.1}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_k": -1}, {"top_p": 0},
     {"top_p": 1.1}, {"min_p": -0.1}, {"min_p": 1.5}, {"repetition_penalty": 0}, {"presence_penalty": 3},
     {"frequency_penalty": -2.5}, {"seed": 2**63}, {"max_tokens": 0}, {"min_tokens": -1}, {"stop": ["a", ""]},
     {"stop": ["x"] * 65}, {"logit_bias": {-1: 1.0}}, {"logprobs": -1}, {"logprobs": 65}, {"logprobs_mode": "row"},
     {"typical_p": 0}, {"typical_p": 1.5}, {"top_n_sigma": -1}, {"xtc_probability": 2}, {"xtc_threshold": 0.6},
     {"dynatemp_range": -1}, {"dynatemp_exponent": 0}, {"mirostat": 1}, {"mirostat_tau": 0}, {"mirostat_eta": 2},
     {"penalty_last_n": 0}, {"dry_multiplier": -1}, {"dry_base": 0.5}, {"dry_allowed_length": 0},
     {"dry_penalty_last_n": 0}, {"dry_sequence_breakers": [""]}, {"bad_words": [""]}, {"bad_words": ["x" * 201]},
     {"bad_words": ["x"] * 65}, {"force_words": ["\ufffd"]}, {"allowed_token_ids": []}, {"allowed_token_ids": [-1]},
     {"stop_token_ids": [-1]}, {"logit_bias": {"": 1.0}}, {"logit_bias": {"\ud800": 1.0}}],
    ids=str,
)  # fmt: skip
def test_out_of_range_values_are_refused_by_name(found: dict[str, object]) -> None:
    with pytest.raises(IngotError) as error:
        Sampling.of(**found)
    assert error.value.code == "bad-option"
    assert f"option '{next(iter(found))}" in str(error.value)


def test_bias_out_of_range_and_unknown_fields_are_refused() -> None:
    with pytest.raises(IngotError, match=r"logit_bias\.7"):
        Sampling.of(logit_bias={7: 101})
    with pytest.raises(IngotError, match="did you mean temperature"):
        Sampling.of(temprature=1)
    with pytest.raises(IngotError, match="min_tokens 9 is more than max_tokens 3"):
        Sampling.of(min_tokens=9, max_tokens=3)


@pytest.mark.parametrize(
    ("found", "said"),
    [({"xtc_threshold": 0.2}, "xtc_threshold does nothing without xtc_probability"),
     ({"mirostat_tau": 3.0}, "mirostat_tau does nothing without mirostat"),
     ({"dry_base": 2.0}, "dry_base does nothing without dry_multiplier"),
     ({"dynatemp_exponent": 2.0}, "dynatemp_exponent does nothing without dynatemp_range"),
     ({"penalty_last_n": 8}, "penalty_last_n does nothing without a repetition"),
     ({"temperature": 0, "mirostat": 2}, "mirostat needs a temperature above 0"),
     ({"temperature": 0, "dynatemp_range": 1}, "dynatemp_range needs a temperature above 0"),
     ({"force_words": ["a cat"], "bad_words": ["cat"]}, "force_words asks for 'a cat', which holds 'cat'"),
     ({"force_words": ["a\nb"], "stop": ["\n"]}, "which holds '\\\\n' of bad_words or stop")],
    ids=str,
)  # fmt: skip
def test_controls_that_could_do_nothing_or_contradict_are_refused(found: dict[str, object], said: str) -> None:
    with pytest.raises(IngotError, match=said):
        Sampling.of(**found)


def test_a_bias_of_digits_is_a_token_and_any_other_a_text() -> None:
    assert Sampling.of(logit_bias={"7": 1.0, 8: 2.0, " the": 3.0}).logit_bias == {7: 1.0, 8: 2.0, " the": 3.0}


def test_rows_without_any_token_left_are_told_and_leave_their_neighbours_alone() -> None:
    """Whatever sampler comes after, and drawn or greedy."""
    dead = [request(Sampling.of(**case, allowed_token_ids=[2], bad_words=["x"])) for case in (
        {}, {"temperature": 0}, {"temperature": 0.5, "top_k": 3}, {"top_p": 0.5}, {"typical_p": 0.5}, {"min_p": 0.5},
        {"mirostat": 2}, {"xtc_probability": 1.0}, {"dynatemp_range": 0.5}, {"top_n_sigma": 1.0})]  # fmt: skip
    alive = request(Sampling(seed=3))
    tokens, processed = sample(LOGITS.expand(len(dead) + 1, -1), [*dead, alive])
    assert tokens.tolist()[:-1] == [NO_TOKEN] * len(dead)
    alone, own = sample(LOGITS[None], [alive])
    assert tokens[-1] == alone[0]
    assert torch.equal(processed[-1], own[0])


def test_surprise_is_the_bits_of_the_renormalised_distribution() -> None:
    own = Sampling(mirostat=2, top_k=5)
    _, processed = sample(LOGITS[None], [request(own)])
    shares = processed[0].double().softmax(-1)
    assert surprise(processed[0], 2, own) == pytest.approx(-math.log2(float(shares[2])), abs=1e-6)
    assert surprise(processed[0], 2, Sampling()) is None


def test_one_stop_string_stands_for_a_list() -> None:
    assert Sampling.of(stop="\n").stop == ["\n"]
