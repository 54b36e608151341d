"""The engine against the naive loop, and what must hold whatever happens to it."""

import random
from collections.abc import Callable

import pytest
import torch
from mixed import MIXED, RARER, prompts, run
from naive import naive_generate, naive_text

from cases import first_fast
from ingot import IngotError
from ingot.adapt.load import LanguageModel
from ingot.infer.blocks import BLOCK
from ingot.infer.capacity import token_bytes
from ingot.infer.engine import Engine, generate
from ingot.infer.memory import Memory
from ingot.infer.sampling import Sampling
from ingot.infer.sequence import Event, Sequence
from ingot.infer.speculation.options import Speculation

Tiny = Callable[..., LanguageModel]


def assert_no_leak(engine: Engine) -> None:
    assert not engine.has_work
    assert engine.num_free_blocks == engine.num_blocks


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "gpt2"])
@pytest.mark.parametrize("num_slots", [1, 3, 8])
def test_tokens_equal_the_naive_loop(tiny: Tiny, family: str, num_slots: int) -> None:
    """Prompts of many lengths and every kind of sampling in one batch, greedy among them."""
    model = tiny(family)
    found = generate(model, prompts(), MIXED, num_slots)
    for prompt, sampling, sequence in zip(prompts(), MIXED, found, strict=True):
        expected = naive_generate(model, prompt, sampling, sequence.seed)
        assert sequence.tokens == expected
        assert sequence.text == naive_text(model, prompt, expected, [])


@first_fast("company", ["alone", "together", "guessed", "little memory"])
def test_samplers_that_remember_equal_the_naive_loop(tiny: Tiny, company: str) -> None:
    """Their state, worked out anew from the whole history at each token by the naive loop; also where tokens are
    guessed and checked together, and where texts have to wait and are read again."""
    model = tiny()
    guess = Speculation(kind="lookup", always=True) if company == "guessed" else None
    few = Memory(gib=12 * BLOCK * token_bytes(model.config, model.decoder.dtype) / (1 << 30))
    memory = few if company == "little memory" else None
    found = generate(model, prompts(), RARER, 1 if company == "alone" else 8, memory=memory, speculation=guess)
    for prompt, sampling, sequence in zip(prompts(), RARER, found, strict=True):
        ids = [model.tokenizer.encode(key) if isinstance(key, str) else [key] for key in sampling.logit_bias]
        bias = {id: value for own, value in zip(ids, sampling.logit_bias.values(), strict=True) for id in own}
        plain = sampling.model_copy(update={"logit_bias": bias})
        assert sequence.tokens == naive_generate(model, prompt, plain, sequence.seed)


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_prompts_read_in_small_pieces_give_the_same_tokens(tiny: Tiny, family: str) -> None:
    """Chunks of 7 tokens."""
    whole = generate(tiny(family), prompts(), MIXED)
    engine = Engine(tiny(family), num_slots=5, prefill_tokens=7)
    pieces = [engine.submit(prompt, own) for prompt, own in zip(prompts(), MIXED, strict=True)]
    run(engine)
    assert [each.tokens for each in pieces] == [each.tokens for each in whole]
    assert_no_leak(engine)


def test_padding_never_reaches_beyond_the_window(tiny: Tiny) -> None:
    """Read together, the end of the long prompt would be padded to position 130 of 128, which GPT-2 does not have."""
    model, asked = tiny("gpt2"), prompts([120, 30])
    engine = Engine(model, num_slots=2, prefill_tokens=100)
    found = [engine.submit(prompt, Sampling(temperature=0, max_tokens=4)) for prompt in asked]
    run(engine)
    for prompt, sequence in zip(asked, found, strict=True):
        assert sequence.tokens == naive_generate(model, prompt, sequence.sampling, 0)


@first_fast("seed", range(4))
def test_arrivals_and_cancellations_change_nobody_elses_tokens(tiny: Tiny, seed: int) -> None:
    model, chooser = tiny(), random.Random(seed)
    expected = {
        number: naive_generate(model, prompt, own, own.seed or 0)
        for number, (prompt, own) in enumerate(zip(prompts(), MIXED, strict=True))
    }
    engine, live, todo = Engine(model, num_slots=3, prefill_tokens=16), [], list(expected) * 2
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
    assert {"cancelled", "length"} <= {sequence.finish_reason for _, sequence in live}
    assert_no_leak(engine)


def test_a_long_prompt_does_not_hold_up_the_others(tiny: Tiny) -> None:
    engine = Engine(tiny(), num_slots=2, prefill_tokens=8)
    early = engine.submit(prompts()[1], Sampling(max_tokens=50, ignore_eos=True))
    engine.step()
    engine.submit(prompts()[6], Sampling(max_tokens=2, ignore_eos=True))
    for _ in range(10):
        assert [event.sequence for event in engine.step()] == [early]


def test_one_token_a_sequence_and_step_and_events_join_to_the_text(tiny: Tiny) -> None:
    engine = Engine(tiny(), num_slots=3)
    sequences = [engine.submit(prompt, Sampling(seed=9, max_tokens=20)) for prompt in prompts()]
    events: dict[Sequence, list[Event]] = {sequence: [] for sequence in sequences}
    while engine.has_work:
        step = engine.step()
        assert len({event.sequence for event in step}) == len(step)
        for event in step:
            events[event.sequence].append(event)
    for sequence, own in events.items():
        assert [event.token_id for event in own] == sequence.tokens
        assert "".join(event.text for event in own) == sequence.text
        assert [event.finish_reason for event in own] == [None] * (len(own) - 1) + [sequence.finish_reason]


@first_fast("most", [None, 1000])
def test_generation_ends_at_the_end_of_the_window(tiny: Tiny, most: int | None) -> None:
    model = tiny()
    for length in (1, 100, model.max_length - 1):
        prompt = prompts([length])[0]
        (sequence,) = generate(model, [prompt], Sampling(seed=0, max_tokens=most, ignore_eos=True))
        assert (sequence.finish_reason, length + len(sequence.tokens)) == ("length", model.max_length)
        expected = naive_generate(model, prompt, Sampling(max_tokens=None, ignore_eos=True), 0)
        assert sequence.tokens == expected


def test_an_end_token_ends_and_is_not_shown(tiny: Tiny) -> None:
    model = tiny()
    (eos,) = model.eos_ids
    prompt = prompts()[2]
    early = {"logit_bias": {eos: 100.0}, "max_tokens": 5}
    found = [generate(model, [prompt], Sampling(**early, **more))[0] for more in (
        {}, {"min_tokens": 3}, {"ignore_eos": True})]  # fmt: skip
    assert [(each.finish_reason, each.stop_reason, each.text) for each in found[::2]] == [
        ("stop", eos, ""),
        ("length", None, ""),
    ]
    assert (found[0].tokens, found[2].tokens) == ([eos], [eos] * 5)
    assert (found[1].tokens.index(eos), found[1].finish_reason) == (3, "stop")


def text_and_tokens(model: LanguageModel) -> tuple[list[int], Sequence]:
    """A long answer whose text has characters of several bytes."""
    prompt = model.tokenizer.encode_document("the cat 天空")
    return prompt, generate(model, [prompt], Sampling(seed=5, temperature=1.2, max_tokens=60, ignore_eos=True))[0]


@first_fast("width", [1, 2, 5, 11])
def test_nothing_of_a_stop_string_or_after_it_is_emitted(tiny: Tiny, width: int) -> None:
    model = tiny()
    prompt, whole = text_and_tokens(model)
    for begin in range(0, len(whole.text) - width, 7):
        stops = [whole.text[begin : begin + width], "never there", whole.text[begin : begin + 1] + "\x00"]
        own = whole.sampling.model_copy(update={"stop": stops})
        engine = Engine(model, 2)
        sequence = engine.submit(prompt, own)
        emitted = "".join(event.text for event in run(engine))
        assert emitted == sequence.text == naive_text(model, prompt, whole.tokens, stops)
        assert (sequence.finish_reason, sequence.stop_reason) == ("stop", stops[0])
        assert sequence.tokens == whole.tokens[: len(sequence.tokens)]
        assert stops[0] not in naive_text(model, prompt, sequence.tokens[:-1], []).rstrip("\ufffd")
        assert_no_leak(engine)


def test_text_held_back_for_a_stop_string_that_did_not_come_is_released(tiny: Tiny) -> None:
    model = tiny()
    prompt, whole = text_and_tokens(model)
    own = whole.sampling.model_copy(update={"stop": [whole.text[-4:] + "more"]})
    (sequence,) = generate(model, [prompt], own)
    assert (sequence.text, sequence.finish_reason) == (whole.text, "length")


def test_cancelling_frees_the_slot_at_once(tiny: Tiny) -> None:
    engine = Engine(tiny(), num_slots=1)
    first, second, third = (engine.submit(prompt, Sampling(seed=1, max_tokens=9)) for prompt in prompts()[:3])
    engine.step()
    engine.cancel(first)
    engine.cancel(second)
    assert (engine.num_running, engine.num_waiting) == (0, 1)
    assert {event.sequence for event in run(engine)} == {third}
    engine.cancel(third)
    assert [each.finish_reason for each in (first, second)] == ["cancelled"] * 2
    assert third.finish_reason in {"stop", "length"}
    assert_no_leak(engine)


def test_a_failing_step_ends_what_ran_and_leaks_no_slot(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    engine = Engine(model, num_slots=2)
    sequences = [engine.submit(prompt, Sampling(temperature=0, max_tokens=6)) for prompt in prompts()[:4]]
    engine.step()

    def broken(hidden: torch.Tensor) -> torch.Tensor:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(model.decoder, "head", broken)
        with pytest.raises(MemoryError):
            engine.step()
    assert [each.finish_reason for each in sequences] == ["error", "error", None, None]
    run(engine)
    for prompt, sequence in list(zip(prompts(), sequences, strict=False))[2:]:
        assert sequence.tokens == naive_generate(model, prompt, sequence.sampling, 0)
    assert_no_leak(engine)


def test_logits_that_are_not_numbers_are_an_error(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    monkeypatch.setattr(model.decoder, "head", lambda hidden: torch.full((len(hidden), 320), torch.nan))
    with pytest.raises(IngotError) as error:
        generate(model, [[5]], Sampling(temperature=0))
    assert error.value.code == "logits-not-finite"


def test_a_fresh_seed_is_reported_and_repeats_the_answer(tiny: Tiny) -> None:
    model = tiny()
    first, second = generate(model, prompts()[:1] * 2, Sampling(max_tokens=30, ignore_eos=True))
    assert first.seed != second.seed
    assert first.tokens != second.tokens
    again = generate(model, prompts()[:1], Sampling(max_tokens=30, seed=second.seed, ignore_eos=True))[0]
    assert again.tokens == second.tokens


@pytest.mark.parametrize("mode", ["raw", "processed"])
def test_logprobs_are_those_of_the_distribution_asked_for(tiny: Tiny, mode: str) -> None:
    model, prompt = tiny(), prompts()[3]
    own = Sampling(seed=3, temperature=0.5, top_k=6, max_tokens=12, logprobs=5, logprobs_mode=mode)
    (sequence,) = generate(model, [prompt], own)
    assert sequence.logprobs is not None
    assert len(sequence.logprobs) == len(sequence.tokens)
    logits = model.logits([prompt + sequence.tokens])[0, len(prompt) - 1 : -1]
    if mode == "processed":
        floor = (logits / 0.5).topk(6).values[:, -1:]
        logits = (logits / 0.5).masked_fill(logits / 0.5 < floor, -torch.inf)
    for entry, token, row in zip(sequence.logprobs, sequence.tokens, logits.log_softmax(-1), strict=True):
        assert entry.token_id == token
        assert entry.logprob == pytest.approx(float(row[token]), abs=1e-4)
        assert [value for _, value in entry.alternatives] == pytest.approx(row.topk(5).values.tolist(), abs=1e-4)


@pytest.mark.parametrize("prefill_tokens", [512, 7])
def test_logprobs_of_the_prompt_are_the_models(
    tiny: Tiny, prefill_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read whole or in parts, beside others, made a few rows at a time, and though the cache knows the prompt."""
    monkeypatch.setattr("ingot.infer.engine.LOGITS_AT_ONCE", 3 * 320)
    model, asked = tiny(), prompts()
    engine = Engine(model, 4, prefill_tokens)
    own = Sampling(seed=1, max_tokens=3, prompt_logprobs=2, ignore_eos=True)
    for _ in range(2):
        found = [engine.submit(prompt, own) for prompt in asked]
        run(engine)
        for prompt, sequence in zip(asked, found, strict=True):
            assert sequence.prompt_logprobs is not None
            first, *others = sequence.prompt_logprobs
            assert first is None
            rows = model.logits([prompt])[0].log_softmax(-1)
            assert [entry.token_id for entry in others if entry] == prompt[1:]
            for entry, token, row in zip(others, prompt[1:], rows, strict=False):
                assert entry is not None
                assert entry.logprob == pytest.approx(float(row[token]), abs=1e-4)
                assert [value for _, value in entry.alternatives] == pytest.approx(
                    row.topk(2).values.tolist(), abs=1e-4
                )
            assert sequence.tokens == naive_generate(model, prompt, own, 1)


def test_logprobs_without_alternatives_and_without_logprobs(tiny: Tiny) -> None:
    own = Sampling(temperature=0, max_tokens=3)
    plain, chosen = (generate(tiny(), [[9, 9]], own.model_copy(update={"logprobs": n}))[0] for n in (None, 0))
    assert plain.logprobs is None
    assert [entry.alternatives for entry in chosen.logprobs or []] == [()] * 3


@pytest.mark.parametrize(
    ("prompt", "sampling", "code", "words"),
    [([], {}, "empty-prompt", "no tokens"), ([5] * 128, {}, "prompt-too-long", "128 tokens"),
     ([5] * 500, {}, "prompt-too-long", "window is 128"), ([5, 320], {}, "token-outside", "320"),
     ([-1], {}, "token-outside", "-1"), ([5], {"logit_bias": {320: 1.0}}, "token-outside", "logit_bias")],
)  # fmt: skip
def test_what_cannot_be_run_is_refused(
    tiny: Tiny, prompt: list[int], sampling: dict[str, object], code: str, words: str
) -> None:
    engine = Engine(tiny())
    with pytest.raises(IngotError, match=words) as error:
        engine.submit(prompt, Sampling.of(**sampling))
    assert error.value.code == code
    assert_no_leak(engine)


def test_a_model_without_a_tokenizer_gives_tokens(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> None:
    from ingot.adapt.load import load
    from tiny import LLAMA, write_model

    model = load(write_model(tmp_path_factory.mktemp("bare") / "m", LLAMA))
    (sequence,) = generate(model, [[5, 6]], Sampling(temperature=0, max_tokens=4))
    assert (len(sequence.tokens), sequence.text) == (4, "")
    with pytest.raises(IngotError, match=r"tokenizer\.json"):
        generate(model, [[5]], Sampling(stop=["a"]))
