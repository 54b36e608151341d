"""DoLa and guidance draw from their definitions, alone, among strangers, guessed at and pre-empted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from mixed import MIXED, prompts, run
from naive import naive_generate
from pydantic import ValidationError
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, softmax

from cases import first_fast
from ingot import IngotError
from ingot.adapt.load import LanguageModel
from ingot.infer.blocks import BLOCK
from ingot.infer.capacity import token_bytes
from ingot.infer.engine import Engine, generate
from ingot.infer.memory import Memory
from ingot.infer.sampling import Sampling
from ingot.infer.sequence import Sequence
from ingot.infer.speculation.options import Speculation
from ingot.infer.steering.dola import earlier_layers
from ingot.model.encoder_decoder import EncoderDecoder

Tiny = Callable[..., LanguageModel]
SHALLOW = {"low": {"llama": [0], "gpt2": [1], "gemma2": [1]}, "high": [1]}


def layer_logits(model: LanguageModel, ids: list[int], layers: list[int]) -> list[np.ndarray]:
    """What the head alone says to the stream that enters each of these layers, watched from outside."""
    seen: dict[int, torch.Tensor] = {}
    decoder = model.decoder
    hooks = [
        decoder.blocks[layer].register_forward_pre_hook(lambda _, args, layer=layer: seen.update({layer: args[0]}))
        for layer in layers
    ]
    with torch.inference_mode():
        decoder(torch.tensor([ids]))
        found = [decoder.head(seen[layer][0, -1]).double().numpy() for layer in layers]
    for hook in hooks:
        hook.remove()
    return found


def naive_dola(model: LanguageModel, prompt: list[int], sampling: Sampling, layers: list[int]) -> list[int]:
    def steered(answer: list[int]) -> np.ndarray:
        last = log_softmax(model.logits([[*prompt, *answer]])[0, -1].double().numpy())
        earlier = [log_softmax(logits) for logits in layer_logits(model, [*prompt, *answer], layers)]
        far = [jensenshannon(softmax(last), softmax(logits)) for logits in earlier]
        kept = np.exp(last) >= sampling.dola_relative_top * np.exp(last).max()
        return np.where(kept, last - earlier[int(np.argmax(far))], -np.inf)

    return naive_generate(model, prompt, sampling, sampling.seed or 0, steered=steered)


def naive_guided(model: LanguageModel, prompt: list[int], sampling: Sampling, negative: list[int]) -> list[int]:
    both_ways = model.config.prefix_lm

    def logprobs(begin: list[int], answer: list[int]) -> np.ndarray:
        if isinstance(model.network, EncoderDecoder):
            found = model.logits([[model.start_id, *answer]], [begin])
        else:
            found = model.logits([[*begin, *answer]], None, len(begin) if both_ways else 0)
        return log_softmax(found[0, -1].double().numpy())

    def steered(answer: list[int]) -> np.ndarray:
        unwanted = logprobs(negative, answer)
        return unwanted + sampling.guidance_scale * (logprobs(prompt, answer) - unwanted)

    return naive_generate(model, prompt, sampling, sampling.seed or 0, steered=steered)


def small(model: LanguageModel, blocks: int) -> Memory:
    each = BLOCK * token_bytes(model.config, model.writer.dtype)
    return Memory(gib=(blocks * each + each / 2) / (1 << 30))


def steer(own: Sampling, **more: object) -> Sampling:
    return Sampling(**(own.model_dump(exclude_unset=True) | more))


@first_fast("family", ["llama", "gpt2", "gemma2"])
@first_fast("wanted", ["low", "high", [0, 1]])
def test_dola_is_its_definition_with_any_sampler(tiny: Tiny, family: str, wanted: str | list[int]) -> None:
    """Rows with and without it, in one batch, read in parts."""
    model, asked = tiny(family), prompts()
    engine = Engine(model, num_slots=5, prefill_tokens=16)
    controls = [
        steer(own, dola_layers=wanted, dola_relative_top=0.05) if number % 3 else own
        for number, own in enumerate(MIXED)
    ]
    found = [engine.submit(prompt, own) for prompt, own in zip(asked, controls, strict=True)]
    run(engine)
    layers = list(earlier_layers(model.config, wanted))
    assert layers == (wanted if isinstance(wanted, list) else [1] if wanted == "high" else SHALLOW["low"][family])
    plain = [naive_generate(model, prompt, own, own.seed or 0) for prompt, own in zip(asked, MIXED, strict=True)]
    for number, (prompt, own, sequence) in enumerate(zip(asked, controls, found, strict=True)):
        assert sequence.tokens == (naive_dola(model, prompt, own, layers) if number % 3 else plain[number])
    assert sum(sequence.tokens != tokens for sequence, tokens in zip(found, plain, strict=True)) >= 4


@pytest.mark.slow
def test_dola_with_guesses_little_memory_and_streamed_is_the_same(tiny: Tiny) -> None:
    model, asked = tiny(), [prompt * 2 for prompt in prompts([1, 2, 5, 17, 30, 3, 40, 8])]
    controls = [steer(own, dola_layers="low") for own in MIXED]
    wanted = [naive_dola(model, prompt, own, [0]) for prompt, own in zip(asked, controls, strict=True)]
    guessing = Speculation(kind="lookup", tokens=4, always=True)
    for engine in (Engine(model, 8, speculation=guessing), Engine(model, 8, memory=small(model, 9)), Engine(model, 1)):
        found = [engine.submit(prompt, own) for prompt, own in zip(asked, controls, strict=True)]
        events = run(engine)
        assert [sequence.tokens for sequence in found] == wanted
        for sequence in found:
            mine = [event for event in events if event.sequence is sequence]
            assert "".join(event.text for event in mine) == sequence.text
        assert engine.num_free_blocks == engine.num_blocks


def test_logprobs_beside_dola_are_the_models_own_or_those_drawn_from(tiny: Tiny) -> None:
    model, (prompt,) = tiny(), prompts([9])
    raw, processed = (
        generate(model, [prompt], Sampling(temperature=0, max_tokens=3, dola_layers="low", logprobs=2, logprobs_mode=m,
                                           prompt_logprobs=1))[0]
        for m in ("raw", "processed")
    )  # fmt: skip
    plain = generate(model, [prompt], Sampling(temperature=0, max_tokens=1, logprobs=2, prompt_logprobs=1))[0]
    assert raw.logprobs and processed.logprobs and plain.logprobs  # noqa: PT018
    assert raw.logprobs[0].alternatives == plain.logprobs[0].alternatives
    assert raw.prompt_logprobs == plain.prompt_logprobs
    assert processed.logprobs[0].token_id == processed.logprobs[0].alternatives[0][0]
    assert processed.logprobs[0].alternatives != plain.logprobs[0].alternatives


NEGATIVES = prompts([3, 20, 1, 33, 60, 17, 2, 40], seed=9)


def guided(own: Sampling, number: int) -> Sampling:
    negative = {} if number == 5 else {"negative_prompt_ids": NEGATIVES[number]}
    return steer(own, guidance_scale=(0.0, 1.5, 3.0)[number % 3], **negative)


@first_fast("family", ["llama", "mistral", "gpt2"])
def test_guidance_is_its_definition_with_any_sampler(tiny: Tiny, family: str) -> None:
    model, asked = tiny(family), prompts()
    check_guidance(model, asked, Engine(model, num_slots=5, prefill_tokens=16))


@first_fast("kind", ["t5", "bart", "prefix"])
def test_guidance_of_what_reads_both_ways(tiny_pair: Tiny, tiny_prefix: Tiny, kind: str) -> None:
    model = tiny_prefix() if kind == "prefix" else tiny_pair(kind)
    check_guidance(model, prompts([1, 2, 5, 17, 40, 3, 70, 8]), Engine(model, num_slots=4, prefill_tokens=16))


@pytest.mark.slow
def test_guided_texts_share_give_way_and_go_together(tiny: Tiny) -> None:
    model, asked = tiny(), prompts([1, 2, 5, 17, 40, 3, 50, 8])
    little, two, roomy = engines = (
        Engine(model, 8, memory=small(model, 11)),
        Engine(model, 2),
        Engine(model, 5, 16, speculation=Speculation(kind="lookup", tokens=4, always=True)),
    )
    for engine in engines:
        check_guidance(model, asked, engine)
        check_guidance(model, asked, engine)
    assert little.counters.preempted > 0
    assert roomy.counters.hit > sum(len(prompt) // BLOCK * BLOCK for prompt in asked)
    assert two.counters.preempted == roomy.counters.preempted == 0


def check_guidance(model: LanguageModel, asked: list[list[int]], engine: Engine) -> None:
    controls = [own if number == 4 else guided(own, number) for number, own in enumerate(MIXED)]
    found = [engine.submit(prompt, own) for prompt, own in zip(asked, controls, strict=True)]
    events = run(engine)
    for number, (prompt, own, sequence) in enumerate(zip(asked, controls, found, strict=True)):
        if number == 4:
            assert sequence.tokens == naive_generate(model, prompt, own, own.seed or 0)
            continue
        negative = NEGATIVES[number] if own.negative_prompt_ids else prompt[-1:]
        assert sequence.tokens == naive_guided(model, prompt, own, negative)
    assert sum(len(sequence.tokens) for sequence in found) == len(events)
    assert engine.num_free_blocks == engine.num_blocks


def test_nothing_is_guessed_of_a_guided_text(tiny: Tiny) -> None:
    engine = Engine(tiny(), speculation=Speculation(kind="lookup", tokens=4, always=True))
    own = Sampling(temperature=0, max_tokens=12, logit_bias={5: 100.0}, guidance_scale=1.5)
    sequence = engine.submit([5] * 20, own)
    run(engine)
    assert sequence.tokens == [5] * 12
    assert engine.counters.drafted == 0


def test_a_guided_text_is_cancelled_with_its_companion(tiny: Tiny) -> None:
    engine = Engine(tiny(), num_slots=4, prefill_tokens=16)
    own = Sampling(seed=1, guidance_scale=2.0, negative_prompt_ids=NEGATIVES[4], ignore_eos=True)
    sequences = [engine.submit(prompts([30])[0], own) for _ in range(3)]
    for steps, sequence in zip((0, 2, 4), sequences, strict=True):
        for _ in range(steps):
            engine.step()
        engine.cancel(sequence)
    assert not engine.has_work
    assert engine.num_free_blocks == engine.num_blocks


def test_a_negative_prompt_may_be_text_and_fills_the_window(tiny: Tiny) -> None:
    model = tiny()
    ids = model.tokenizer.encode("the cat")
    text = generate(model, [[5, 6]], Sampling(seed=1, guidance_scale=2, negative_prompt="the cat", max_tokens=9))[0]
    same = generate(model, [[5, 6]], Sampling(seed=1, guidance_scale=2, negative_prompt_ids=ids, max_tokens=9))[0]
    assert text.tokens == same.tokens
    own = Sampling(seed=1, guidance_scale=2, negative_prompt_ids=[7] * 120, max_tokens=None, ignore_eos=True)
    (long,) = generate(model, [[5, 6]], own)
    assert (len(long.tokens), long.finish_reason) == (8, "length")


def test_what_cannot_be_steered_is_refused_by_name(tiny: Tiny, tiny_pair: Tiny) -> None:
    for model, given, code in (
        (tiny_pair(), {"dola_layers": "low"}, "dola-needs-layers"),
        (tiny(), {"dola_layers": [0, 2]}, "layer-outside"),
        (tiny(), {"guidance_scale": 2.0, "negative_prompt_ids": [99999]}, "token-outside"),
        (tiny(), {"guidance_scale": 2.0, "negative_prompt": ""}, "empty-prompt"),
        (tiny(), {"guidance_scale": 2.0, "negative_prompt_ids": [7] * 128}, "prompt-too-long"),
    ):
        with pytest.raises(IngotError) as error:
            Engine(model).submit([5], Sampling(**given))
        assert error.value.code == code
    with pytest.raises(IngotError) as error:
        Engine(tiny(), num_slots=1).submit([5], Sampling(guidance_scale=2))
    assert error.value.code == "guidance-needs-slots"
    for given in (
        {"dola_relative_top": 0.2},
        {"negative_prompt": "x"},
        {"negative_prompt_ids": [1]},
        {"guidance_scale": 2, "negative_prompt": "x", "negative_prompt_ids": [1]},
        {"guidance_scale": 2, "dola_layers": "low"},
        {"dola_layers": "middle"},
        {"dola_layers": []},
        {"dola_layers": [-1]},
        {"guidance_scale": -1},
    ):
        with pytest.raises(ValidationError):
            Sampling(**given)
    assert Sampling(dola_layers="0, 2,4").dola_layers == [0, 2, 4]


@pytest.mark.parametrize(
    ("every", "tied", "low", "high"),
    [
        (1, False, [0], [0]),
        (3, True, [1], [1]),
        (4, True, [2], [2]),
        (8, False, [0, 2], [4, 6]),
        (9, True, [2], [4, 6, 8]),
        (48, True, list(range(2, 20, 2)), list(range(28, 48, 2))),
    ],
)
def test_low_and_high_layers(tiny: Tiny, every: int, tied: bool, low: list[int], high: list[int]) -> None:
    from dataclasses import replace

    config = replace(tiny().config, num_layers=every, tie_embeddings=tied)
    assert list(earlier_layers(config, "low")) == low
    assert list(earlier_layers(config, "high")) == high


@pytest.mark.peers
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_guided_tokens_equal_transformers(tiny: Tiny, family: str) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny(family)
    peer = AutoModelForCausalLM.from_pretrained(model.model_dir.path).eval()
    asked = prompts([1 + 3 * n % 40 for n in range(50)], seed=4)
    negatives = [None if n % 4 == 0 else prompts([1 + n % 9], seed=n)[0] for n in range(50)]
    controls = [
        Sampling(temperature=0, max_tokens=12, guidance_scale=1.5, negative_prompt_ids=ids, repetition_penalty=1.1)
        for ids in negatives
    ]
    found: list[Sequence] = generate(model, asked, controls)
    for prompt, negative, sequence in zip(asked, negatives, found, strict=True):
        more = {} if negative is None else {"negative_prompt_ids": torch.tensor([negative])}
        expected = peer.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=12,
            repetition_penalty=1.1, eos_token_id=sorted(model.eos_ids), pad_token_id=1, guidance_scale=1.5, **more,
        )  # fmt: skip
        assert sequence.tokens == expected[0, len(prompt) :].tolist()
