"""Prefix cache, pre-emption and speculation change no token, and what they hold is let go."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mixed import MIXED, prompts, run
from naive import naive_generate

from cases import first_fast
from ingot import IngotError
from ingot.adapt.load import LanguageModel
from ingot.infer.blocks import BLOCK
from ingot.infer.capacity import token_bytes
from ingot.infer.engine import Engine
from ingot.infer.memory import Memory
from ingot.infer.sampling import Sampling
from ingot.infer.sequence import Sequence
from ingot.infer.speculation.options import Speculation
from ingot.infer.speculation.proposer import FIRST_PAUSE, TRIAL, Balance

Tiny = Callable[..., LanguageModel]


def small(model: LanguageModel, blocks: int) -> Memory:
    """Memory for so many blocks, scratch included."""
    each = BLOCK * token_bytes(model.config, model.decoder.dtype)
    return Memory(gib=(blocks * each + each / 2) / (1 << 30))


def expected(model: LanguageModel, asked: list[list[int]]) -> list[list[int]]:
    return [naive_generate(model, prompt, own, own.seed or 0) for prompt, own in zip(asked, MIXED, strict=True)]


def finish(engine: Engine, asked: list[list[int]], **more: object) -> list[Sequence]:
    sequences = [engine.submit(prompt, own, **more) for prompt, own in zip(asked, MIXED, strict=True)]
    run(engine)
    assert engine.num_free_blocks == engine.num_blocks
    return sequences


def shared_prompts() -> list[list[int]]:
    """Eight prompts with a common beginning of 50 tokens, some of them equal."""
    (common,) = prompts([50], seed=3)
    return [common + prompts([length], seed=length)[0] for length in (1, 5, 5, 14, 30, 30, 40, 2)]


@first_fast("family", ["llama", "mistral", "gpt2", "bloom", "gemma3"])
def test_a_cache_hit_gives_the_same_tokens(tiny: Tiny, family: str) -> None:
    """Within a batch, in a later one, and after a text that was itself an answer."""
    model, asked = tiny(family), shared_prompts()
    wanted = expected(model, asked)
    engine = Engine(model, num_slots=4)
    for round_ in range(2):
        found = finish(engine, asked)
        assert [each.tokens for each in found] == wanted
        hits = [each.num_hit for each in found]
        if round_:
            assert hits == [(len(prompt) - 1) // BLOCK * BLOCK for prompt in asked]
    assert engine.counters.hit > 0.8 * len(asked) * 48
    grown = asked[1] + wanted[1]
    (again,) = (engine.submit(grown, MIXED[1]),)
    run(engine)
    assert again.num_hit == (len(grown) - 1) // BLOCK * BLOCK
    assert again.tokens == naive_generate(model, grown, MIXED[1], again.seed)


def test_equal_prompts_that_come_together_are_read_once(tiny: Tiny) -> None:
    (prompt,) = prompts([70])
    engine = Engine(tiny(), num_slots=4)
    found = [engine.submit(prompt, Sampling(seed=n, max_tokens=3, ignore_eos=True)) for n in range(4)]
    run(engine)
    assert [each.num_hit for each in found] == [0, 64, 64, 64]
    assert [each.tokens for each in found] == [
        naive_generate(tiny(), prompt, each.sampling, each.seed) for each in found
    ]


def test_another_salt_shares_nothing(tiny: Tiny) -> None:
    engine = Engine(tiny(), num_slots=4)
    first, second, third = (finish(engine, shared_prompts(), salt=salt) for salt in ("a", "b", "a"))
    assert [each.tokens for each in first] == [each.tokens for each in second] == [each.tokens for each in third]
    assert sum(each.num_hit for each in second) == sum(each.num_hit for each in first)
    assert sum(each.num_hit for each in third) > sum(each.num_hit for each in first)


def test_one_other_token_is_another_text(tiny: Tiny) -> None:
    model, (prompt,) = tiny(), prompts([60])
    engine = Engine(model)
    own = Sampling(temperature=0, max_tokens=6, ignore_eos=True)
    for place in (0, 15, 16, 40):
        other = [*prompt[:place], (prompt[place] + 1) % 300 + 4, *prompt[place + 1 :]]
        for asked in (prompt, other):
            sequence = engine.submit(asked, own)
            run(engine)
            assert sequence.tokens == naive_generate(model, asked, own, 0)
    assert sequence.num_hit == 32


@first_fast("kind", ["decoder", "encoder-decoder", "prefix"])
@first_fast("blocks", [9, 12, 20])
def test_too_little_memory_makes_wait_and_read_again_but_changes_no_token(
    tiny: Tiny, tiny_pair: Tiny, tiny_prefix: Tiny, kind: str, blocks: int
) -> None:
    """Eight blocks hold one text of the window; the longest prompt alone needs seven of them."""
    model = {"decoder": tiny, "encoder-decoder": tiny_pair, "prefix": tiny_prefix}[kind]()
    asked = prompts([1, 2, 5, 17, 40, 3, 70 if kind == "encoder-decoder" else 90, 8])
    sources = 8 * 6 + 1 if kind == "encoder-decoder" else 0
    each = BLOCK * token_bytes(model.config, model.writer.dtype)
    memory = Memory(gib=((blocks + sources) * each + each / 2) / (1 << 30))
    engine = Engine(model, num_slots=8, memory=memory)
    assert engine.num_blocks == min(blocks - 1, 8 * -(-model.config.max_length // BLOCK))
    longer = [own.model_copy(update={"max_tokens": 25, "ignore_eos": True, "min_tokens": 0}) for own in MIXED]
    sequences = [engine.submit(prompt, own) for prompt, own in zip(asked, longer, strict=True)]
    run(engine)
    for prompt, own, sequence in zip(asked, longer, sequences, strict=True):
        assert sequence.tokens == naive_generate(model, prompt, own, sequence.seed)
    assert engine.num_free_blocks == engine.num_blocks
    if kind != "encoder-decoder" and blocks < 20:
        assert engine.counters.preempted > 0


@first_fast("seed", range(6))
def test_sharing_and_waiting_under_any_order_of_arrival(tiny: Tiny, seed: int) -> None:
    model, chooser = tiny(), random.Random(seed)
    asked = shared_prompts()
    wanted = expected(model, asked)
    engine = Engine(model, 5, chooser.choice([7, 16, 64]), small(model, 12), Speculation(kind="lookup", always=True))
    live: list[tuple[int, Sequence]] = []
    todo = list(range(len(asked))) * 3
    while todo or engine.has_work:
        if todo and chooser.random() < 0.4:
            number = todo.pop(chooser.randrange(len(todo)))
            live.append((number, engine.submit(asked[number], MIXED[number], salt=chooser.choice("ab"))))
        if live and chooser.random() < 0.1:
            engine.cancel(chooser.choice(live)[1])
        engine.step()
    for number, sequence in live:
        whole = wanted[number]
        assert sequence.tokens == (whole[: len(sequence.tokens)] if sequence.finish_reason == "cancelled" else whole)
    assert engine.num_free_blocks == engine.num_blocks


def test_what_cannot_fit_is_refused_and_an_answer_ends_where_memory_does(tiny: Tiny) -> None:
    model = tiny()
    engine = Engine(model, memory=small(model, 4))
    with pytest.raises(IngotError) as error:
        engine.submit(prompts([48])[0])
    assert (error.value.code, error.value.details) == ("cache-too-small", {"found": 48, "limit": 48})
    sequence = engine.submit(prompts([40])[0], Sampling(seed=1, max_tokens=None, ignore_eos=True))
    run(engine)
    assert (sequence.finish_reason, len(sequence.tokens)) == ("length", 8)
    with pytest.raises(IngotError) as error:
        Engine(model, memory=small(model, 1))
    assert error.value.code == "cache-without-room"


def test_int8_keys_and_values_change_little_and_take_a_quarter(tiny: Tiny) -> None:
    model, asked = tiny(), prompts()
    plain, small_ = Engine(model), Engine(model, memory=Memory(kv="int8"))
    assert small_.runner.cache.nbytes < 0.4 * plain.runner.cache.nbytes
    own = Sampling(temperature=0, max_tokens=1, logprobs=0)
    for prompt in asked:
        one, two = plain.submit(prompt, own), small_.submit(prompt, own)
        run(plain), run(small_)
        assert one.logprobs
        assert two.logprobs
        assert one.logprobs[0].logprob != two.logprobs[0].logprob or len(prompt) == 1
        assert one.logprobs[0].logprob == pytest.approx(two.logprobs[0].logprob, abs=0.02)


SPECULATIONS = {
    "lookup": Speculation(kind="lookup", tokens=5, always=True),
    "self": Speculation(kind="self", layers=1, tokens=3, always=True),
}


@first_fast("family", ["llama", "mistral", "gpt2"])
@first_fast("kind", [*SPECULATIONS, "draft", "same"])
def test_guessing_changes_no_token_of_any_sampler(tiny: Tiny, family: str, kind: str) -> None:
    model, asked = tiny(family), [prompt * 2 for prompt in prompts([1, 2, 5, 17, 30, 3, 40, 8])]
    path = tiny(family, seed=0 if kind == "same" else 1).model_dir.path
    speculation = SPECULATIONS.get(kind) or Speculation(kind="draft", draft=str(path), always=True)
    engine = Engine(model, num_slots=3, prefill_tokens=16, speculation=speculation)
    found = [engine.submit(prompt, own) for prompt, own in zip(asked, MIXED, strict=True)]
    events = run(engine)
    for prompt, own, sequence in zip(asked, MIXED, found, strict=True):
        assert sequence.tokens == naive_generate(model, prompt, own, sequence.seed)
        assert [event.token_id for event in events if event.sequence is sequence] == sequence.tokens
    assert engine.counters.drafted > 0 or kind == "lookup"
    assert engine.num_free_blocks == engine.num_blocks
    if kind == "same":  # it knows no penalties, and guesses right wherever there are none
        assert engine.counters.accepted > 0.7 * engine.counters.drafted


def test_a_text_that_repeats_is_guessed(tiny: Tiny) -> None:
    model = tiny()
    engine = Engine(model, speculation=Speculation(kind="lookup", tokens=4, always=True))
    sequence = engine.submit([5, 6, 7, 8] * 3, Sampling(temperature=0, max_tokens=40, logit_bias={5: 100.0}))
    steps = 0
    while engine.has_work:
        engine.step()
        steps += 1
    assert sequence.tokens == [5] * 40
    assert steps < 15


def test_rules_that_leave_a_guess_no_token_end_it(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second token of every guess is none: it is never read, and no answer changes."""
    from ingot.infer.speculation import draft

    plain, calls = draft.sample, iter(range(10**6))

    def without(logits: torch.Tensor, requests: list[object]) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, processed = plain(logits, requests)
        return (tokens if next(calls) % 2 == 0 else torch.full_like(tokens, draft.NO_TOKEN)), processed

    monkeypatch.setattr(draft, "sample", without)
    model = tiny()
    path = str(model.model_dir.path)
    engine = Engine(model, 1, speculation=Speculation(kind="draft", draft=path, always=True))
    own = Sampling(seed=3, max_tokens=12, ignore_eos=True)
    sequence = engine.submit([5, 6, 7], own)
    run(engine)
    assert sequence.tokens == naive_generate(model, [5, 6, 7], own, 3)
    assert engine.counters.accepted == engine.counters.drafted > 3


def test_guessing_pauses_where_it_does_not_pay_and_is_tried_again() -> None:
    balance = Balance()
    for _ in range(TRIAL):
        balance.note(1.0, False)
    assert not balance.is_plain
    for _ in range(TRIAL):
        balance.note(1.5, True)
    assert balance.is_plain
    for _ in range(FIRST_PAUSE):
        balance.note(1.0, False)
    assert not balance.is_plain
    for _ in range(TRIAL):
        balance.note(0.5, True)
    assert not balance.is_plain


def test_what_cannot_guess_is_refused(tiny: Tiny, tiny_pair: Tiny, tmp_path: Path) -> None:
    for model, given, code in (
        (tiny_pair(), {"kind": "self"}, "speculation-needs-decoder"),
        (tiny(), {"kind": "self", "layers": 9}, "layers-too-many"),
        (tiny(), {"kind": "draft", "draft": str(other_vocabulary(tmp_path))}, "draft-vocabulary"),
    ):
        with pytest.raises(IngotError) as error:
            Engine(model, speculation=Speculation(**given))
        assert error.value.code == code
    for given in ({"kind": "draft"}, {"kind": "lookup", "draft": "x"}, {"kind": "lookup", "layers": 1}):
        with pytest.raises(IngotError):
            Speculation.of(**given)


def other_vocabulary(path: Path) -> Path:
    from tiny import LLAMA, write_model

    return write_model(path / "m", LLAMA, vocab_size=99)
