"""Beam, diverse beam and contrastive search equal transformers' or the papers' formulas, and share what they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from mixed import prompts
from naive_search import naive_beams, naive_contrastive
from pydantic import ValidationError

from cases import first_fast
from ingot import IngotError
from ingot.adapt.load import LanguageModel, load
from ingot.infer.blocks import BLOCK, blocks_for
from ingot.infer.capacity import token_bytes
from ingot.infer.engine import Engine, generate
from ingot.infer.fused import FusedRunner
from ingot.infer.memory import Memory
from ingot.infer.reader import Prompt
from ingot.infer.sampling import Sampling
from ingot.infer.search.best import Found, best
from ingot.infer.search.options import Search
from ingot.infer.search.search import CONTROLS, Searcher, search

Tiny = Callable[..., LanguageModel]

KINDS = {
    "beam": Search(kind="beam", beams=4, results=4),
    "short": Search(kind="beam", beams=3, results=3, length_penalty=-1.0, early_stopping="true"),
    "never": Search(kind="beam", beams=2, results=2, length_penalty=0.5, early_stopping="never"),
    "diverse": Search(kind="diverse", beams=6, groups=3, results=6, diversity_penalty=1.5),
    "pairs": Search(kind="diverse", beams=4, groups=2, results=2, early_stopping="true"),
}


def asked() -> list[list[int]]:
    return prompts([1, 2, 5, 17, 40, 3])


def tokens(found: list[list[Found]]) -> list[list[list[int]]]:
    return [[each.sequence.tokens for each in own] for own in found]


def eager(model: LanguageModel) -> LanguageModel:
    """The same model with many end tokens, as random weights seldom say one."""
    found = replace(model)
    found.__dict__["generation"] = replace(model.generation, eos_ids=frozenset(range(7, 320, 4)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "gemma2"])
@pytest.mark.parametrize("kind", KINDS)
def test_beams_are_those_of_the_papers(tiny: Tiny, family: str, kind: str) -> None:
    model = eager(tiny(family))
    assert "stop" in check_beams(model, KINDS[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["beam", "diverse"])
def test_beams_of_what_reads_both_ways(tiny_pair: Tiny, tiny_prefix: Tiny, kind: str) -> None:
    found = [check_beams(eager(model), KINDS[kind], limit=6) for model in (tiny_pair("t5"), tiny_prefix())]
    assert {"stop", "length"} == set().union(*found)


def check_beams(model: LanguageModel, options: Search, limit: int = 7) -> set[str | None]:
    """Why the answers ended."""
    found = search(model, asked(), options, Sampling(max_tokens=limit), num_slots=2 * options.width)
    ends: set[str | None] = set()
    for prompt, own in zip(asked(), found, strict=True):
        wanted = naive_beams(model, prompt, options, limit, model.eos_ids)
        assert [each.sequence.tokens for each in own] == [tokens for tokens, _ in wanted]
        assert [each.score for each in own] == pytest.approx([score for _, score in wanted], rel=1e-6, abs=1e-5)
        ends |= {each.sequence.finish_reason for each in own}
    return ends


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
@pytest.mark.slow
def test_contrastive_search_is_its_formula(tiny: Tiny, tiny_pair: Tiny, family: str) -> None:
    model = eager(tiny_pair(family) if family == "t5" else tiny(family))
    options = Search(kind="contrastive", candidates=5, penalty_alpha=0.6)
    found = search(model, asked(), options, Sampling(max_tokens=12), num_slots=12)
    greedy = generate(model, asked(), Sampling(temperature=0, max_tokens=12))
    wanted = [naive_contrastive(model, prompt, options, 12, model.eos_ids) for prompt in asked()]
    assert [own[0].sequence.tokens for own in found] == wanted
    assert sum(own[0].sequence.tokens != other.tokens for own, other in zip(found, greedy, strict=True)) >= 3


@first_fast("family", ["llama", "t5"])
def test_searches_that_look_at_one_thing_are_greedy(tiny: Tiny, tiny_pair: Tiny, family: str) -> None:
    model = tiny_pair(family) if family == "t5" else tiny(family)
    own = {"max_tokens": 15, "repetition_penalty": 1.3, "logit_bias": {11: 1.5}, "min_tokens": 4}
    wanted = [each.tokens for each in generate(model, asked(), Sampling(temperature=0, **own))]
    for options in (
        Search(kind="contrastive", candidates=1),
        Search(kind="contrastive", candidates=3, penalty_alpha=0.0),
    ):
        found = search(model, asked(), options, Sampling(**own))
        assert [each[0].sequence.tokens for each in found] == wanted
    own = {"max_tokens": 15, "min_tokens": 4, "presence_penalty": 0.5}
    wanted = [each.tokens for each in generate(model, asked(), Sampling(temperature=0, **own))]
    found = search(model, asked(), Search(kind="beam", beams=1), Sampling(**own))
    assert [each[0].sequence.tokens for each in found] == wanted


@pytest.mark.slow
def test_prompts_together_alone_in_parts_and_with_little_memory_are_the_same(tiny: Tiny) -> None:
    model = tiny("llama", length=1024)
    many = [*asked(), *prompts([700, 520, 16, 15])]
    each = BLOCK * token_bytes(model.config, model.decoder.dtype)
    little = Memory(gib=(62 * each + each / 2) / (1 << 30))
    for options in (KINDS["beam"], KINDS["diverse"], Search(kind="contrastive")):
        own = Sampling(max_tokens=20)
        together = tokens(search(model, many, options, own, num_slots=40))
        assert together == tokens(search(model, many, options, own, num_slots=40, memory=little))
        assert together == [tokens(search(model, [prompt], options, own))[0] for prompt in many]


@pytest.mark.slow
def test_four_beams_of_a_long_prompt_hold_little_more_than_one(tiny: Tiny) -> None:
    """Measured in blocks: what is common lies there once, and nothing is left when all is done."""
    model, own = tiny("llama", length=1024), Sampling(max_tokens=64, ignore_eos=True)
    prompt = Prompt.of(prompts([512])[0])
    for options in (Search(kind="beam", beams=4, results=4), Search(kind="contrastive", candidates=4)):
        searcher = Searcher(model, options)
        root = searcher.root(0, prompt, own)
        (found,) = searcher.run([root], lambda done, note="": None)
        assert {len(each.sequence.tokens) for each in found} == {64}
        alone = blocks_for(512 + 64)
        assert alone <= searcher.branches.most_held <= searcher._most(root)
        assert searcher.branches.most_held <= 1.6 * alone
        assert searcher.branches.blocks.num_free == searcher.branches.blocks.num_blocks - 1


def test_sources_are_read_once_and_let_go(tiny_pair: Tiny) -> None:
    model = tiny_pair()
    searcher = Searcher(model, KINDS["beam"])
    reads: list[int] = []
    read_sources = searcher.runner.read_sources
    searcher.runner.read_sources = lambda sources, *more: reads.append(len(sources)) or read_sources(sources, *more)  # type: ignore[method-assign]
    roots = [searcher.root(n, Prompt.of(prompt), Sampling(max_tokens=9)) for n, prompt in enumerate(asked())]
    searcher.run(roots, lambda done, note="": None)
    assert reads == [1] * len(asked())
    for blocks in (searcher.branches.blocks, searcher.branches.source_blocks):
        assert blocks.num_free == blocks.num_blocks - 1


def test_answers_end_where_the_window_or_memory_does(tiny: Tiny) -> None:
    model = tiny()
    (prompt,) = prompts([120])
    (found,) = search(model, [prompt], KINDS["beam"], Sampling(max_tokens=None, ignore_eos=True))
    assert {(len(each.sequence.tokens), each.sequence.finish_reason) for each in found} == {(8, "length")}
    each = BLOCK * token_bytes(model.config, model.decoder.dtype)
    memory = Memory(gib=(12 * each + each / 2) / (1 << 30))
    (found,) = search(model, [prompts([40])[0]], KINDS["beam"], Sampling(max_tokens=99, ignore_eos=True), memory=memory)
    assert {len(each.sequence.tokens) for each in found} == {24}
    memory = Memory(gib=(8 * each + each / 2) / (1 << 30))
    with pytest.raises(IngotError) as error:
        search(model, [prompts([112])[0]], KINDS["beam"], memory=memory)
    assert error.value.code == "cache-too-small"


def test_controls_that_act_are_heard(tiny: Tiny) -> None:
    model, options = tiny(), Search(kind="beam", beams=2)
    (token,) = model.tokenizer.encode("the")
    for given, wanted in (
        ({"logit_bias": {"the": 50.0}, "ignore_eos": True}, [token] * 6),
        ({"allowed_token_ids": [token], "ignore_eos": True}, [token] * 6),
        ({"logit_bias": {token: 50.0}, "stop_token_ids": [token]}, [token]),
    ):
        ((best_,),) = search(model, ["a"], options, Sampling(max_tokens=6, **given))
        assert best_.sequence.tokens == wanted


def test_packed_weights_are_searched_and_not_contrasted(tiny: Tiny) -> None:
    model = load(tiny().model_dir.path, weights="int8")
    if not isinstance(Engine(model).runner, FusedRunner):
        pytest.skip("this machine runs no kernels")
    found = search(model, asked(), Search(kind="contrastive", penalty_alpha=0.0), Sampling(max_tokens=9))
    greedy = generate(model, asked(), Sampling(temperature=0, max_tokens=9))
    assert [own[0].sequence.tokens for own in found] == [each.tokens for each in greedy]
    four = search(model, asked(), KINDS["beam"], Sampling(max_tokens=9), num_slots=40)
    assert tokens(four) == [tokens(search(model, [p], KINDS["beam"], Sampling(max_tokens=9)))[0] for p in asked()]
    with pytest.raises(IngotError) as error:
        Engine(model).submit([5], Sampling(dola_layers="low"))
    assert error.value.code == "dola-needs-layers"


def test_text_is_the_tokens(tiny: Tiny) -> None:
    model = tiny()
    (found,) = search(model, ["the cat"], KINDS["beam"], Sampling(max_tokens=6))
    ids = model.tokenizer.encode("the cat")
    for each in found:
        shown = [token for token in each.sequence.tokens if token not in model.eos_ids]
        whole = model.tokenizer.decode([*ids, *shown], skip_special=False)
        assert "the cat" + each.sequence.text == whole


def test_equal_numbers_go_to_the_first() -> None:
    values = torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0, 2.0, -torch.inf])
    assert best(values, 4) == ([3.0, 3.0, 2.0, 2.0], [1, 3, 2, 4])
    assert best(values, 9) == ([3.0, 3.0, 2.0, 2.0, 2.0, 1.0], [1, 3, 2, 4, 5, 0])


def test_what_a_search_cannot_do_is_refused_by_name(tiny: Tiny) -> None:
    model = tiny()
    given = {
        "temperature": 0.5, "top_k": 4, "top_p": 0.9, "min_p": 0.1, "seed": 1, "stop": ["x"], "logprobs": 1,
        "prompt_logprobs": 1, "logprobs_mode": "processed", "dola_layers": "low", "guidance_scale": 2.0,
    }  # fmt: skip
    for name, value in given.items():
        with pytest.raises(IngotError) as error:
            search(model, [[5]], KINDS["beam"], Sampling(**{name: value}))
        assert (error.value.code, error.value.details["name"]) == ("not-in-search", name)
    assert set(Sampling.model_fields) >= CONTROLS
    with pytest.raises(IngotError) as error:
        search(model, [[5]], Search())
    assert error.value.code == "search-is-off"
    with pytest.raises(IngotError) as error:
        search(model, [[5]], KINDS["beam"], Sampling(logit_bias={999: 1.0}))
    assert error.value.code == "token-outside"
    for wrong in (
        {"kind": "beam", "groups": 3},
        {"kind": "beam", "candidates": 3},
        {"kind": "contrastive", "beams": 3},
        {"kind": "diverse", "beams": 5},
        {"kind": "beam", "beams": 2, "results": 3},
        {"beams": 2},
        {"kind": "beam", "early_stopping": "yes"},
        {"kind": "beam", "length_penalty": float("nan")},
    ):
        with pytest.raises(ValidationError):
            Search(**wrong)
    assert Search(kind="beam", early_stopping=True).early_stopping == "true"


PEERS = {
    "llama": {},
    "gpt2": {"length_penalty": 0.3, "early_stopping": True},
    "qwen3": {"length_penalty": 2.0, "early_stopping": "never", "repetition_penalty": 1.3, "min_new_tokens": 4},
    "mistral": {"num_beams": 2, "length_penalty": -0.5},
    "gemma2": {"num_beams": 5, "early_stopping": "never", "length_penalty": 0.0},
    "t5": {"length_penalty": 1.5},
    "bart": {"early_stopping": True},
    "marian": {"num_beams": 3, "early_stopping": "never"},
}


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("family", PEERS)
def test_beams_and_scores_equal_transformers_on_50_prompts(tiny: Tiny, tiny_pair: Tiny, family: str) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    given = {"num_beams": 4} | PEERS[family]
    paired = family in ("t5", "bart", "marian")
    model = tiny_pair(family) if paired else eager(tiny(family))
    peer = (AutoModelForSeq2SeqLM if paired else AutoModelForCausalLM).from_pretrained(model.model_dir.path).eval()
    options = Search(
        kind="beam", beams=given["num_beams"], results=given["num_beams"],
        length_penalty=given.get("length_penalty", 1.0), early_stopping=given.get("early_stopping", False),
    )  # fmt: skip
    penalty, least = given.get("repetition_penalty", 1.0), given.get("min_new_tokens", 0)
    own = Sampling(max_tokens=12, min_tokens=least, repetition_penalty=penalty)
    texts = prompts([1 + 3 * n % 40 for n in range(50)], seed=4)
    found = search(model, texts, options, own, num_slots=16)
    reasons = set()
    for prompt, mine in zip(texts, found, strict=True):
        theirs = peer.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=12,
            eos_token_id=sorted(model.eos_ids), pad_token_id=1, num_return_sequences=given["num_beams"],
            return_dict_in_generate=True, output_scores=True, use_cache=not paired, **given,
        )  # fmt: skip
        begin = 1 if paired else len(prompt)
        rows = theirs.sequences[:, begin:].tolist()
        ends = [next((n + 1 for n, token in enumerate(row) if token in model.eos_ids), len(row)) for row in rows]
        assert [each.sequence.tokens for each in mine] == [row[:end] for row, end in zip(rows, ends, strict=True)]
        assert [each.score for each in mine] == pytest.approx(theirs.sequences_scores.tolist(), abs=1e-4)
        reasons |= {each.sequence.finish_reason for each in mine}
    assert paired or "stop" in reasons
