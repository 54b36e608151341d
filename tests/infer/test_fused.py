"""The step that is one call, against the network's modules with products in plain torch, and against itself.

A step brings activations to int8. Where a number lies within a rounding of the middle between two codes, two ways of
adding up may choose different ones; what follows then differs by up to a code. So of many short prompts most are held
to float32 rounding and all to a few codes. What the step promises of itself is held to the bit.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from mixed import MIXED, prompts, run
from torch import Tensor

from ingot.adapt.load import LanguageModel, load
from ingot.adapt.lora import LoRA
from ingot.adapt.targets import ALL_LINEAR
from ingot.infer.blocks import BLOCK, blocks_for
from ingot.infer.capacity import token_bytes
from ingot.infer.engine import Engine
from ingot.infer.fused import FusedRunner
from ingot.infer.fused_angles import PIECE, AngleTables
from ingot.infer.fused_spec import refusal
from ingot.infer.runner import Span, TorchRunner
from ingot.infer.runners import make_runner, why_not_fused
from ingot.infer.speculation.options import Speculation
from ingot.model.cache import KVCache
from ingot.model.kernels import library
from tiny import CONFIGS, LLAMA, MISTRAL, PHI3, write_model

Packed = Callable[..., LanguageModel]

ROUNDING = 3e-6
"""Of the largest number of a hidden state: float32, added up in other orders through two layers."""

CODES = 0.1
"""The same where an activation took the code beside."""

WIDE = {"max_position_embeddings": 1024}
DYNAMIC = {"rope_scaling": {"rope_type": "dynamic", "factor": 8.0}}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 3.0]}
MORE: dict[str, dict[str, Any]] = {
    "llama-biased": LLAMA | {"attention_bias": True, "mlp_bias": True},
    "llama-odd": LLAMA | {"head_dim": 10, "hidden_size": 48, "intermediate_size": 96},
    "llama-mha": LLAMA | {"num_key_value_heads": 4, "head_dim": 64, "hidden_act": "gelu"},
    "llama3": LLAMA | WIDE | {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 64}},
    "dynamic": LLAMA | DYNAMIC,
    "longrope": PHI3 | WIDE | {"rope_scaling": LONGROPE},
    "mistral-300": MISTRAL | WIDE | {"sliding_window": 300, "num_hidden_layers": 1},
    "llama-long": LLAMA | WIDE | {"num_hidden_layers": 1},
}
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "olmo2"]
KINDS = [torch.float32, torch.bfloat16, torch.int8]


@pytest.fixture(scope="module", autouse=True)
def kernels() -> library.Kernels:
    found = library.kernels()
    if found is None:
        pytest.skip("this machine runs no kernels")
    return found


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """packed("llama", "int8"): a tiny model of that family on packed weights."""

    @cache
    def make(family: str, weights: str = "int8", stored: str = "float32") -> LanguageModel:
        config = (CONFIGS | MORE)[family] | {"dtype": stored}
        path = write_model(tmp_path_factory.mktemp("packed") / family, config)
        return load(path, weights=weights)

    return make


def fused(model: LanguageModel, num_blocks: int = 200, kv: torch.dtype = torch.float32) -> FusedRunner:
    runner = make_runner(model, num_blocks, 0, kv)
    assert isinstance(runner, FusedRunner)
    return runner


def shuffled(length: int, seed: int = 0, num_blocks: int = 200) -> list[int]:
    """Blocks for a text, in no order."""
    return random.Random(seed).sample(range(1, num_blocks), blocks_for(length))


def read(runner: FusedRunner, ids: list[int], blocks: list[int], sizes: Sequence[int] = (), wanted: int = -1) -> Tensor:
    """A text's hidden states, its tokens read in parts of these sizes and the rest at once; wanted: of each part."""
    found, begin = [], 0
    for size in [*sizes, len(ids)]:
        part = ids[begin : begin + size]
        if part:
            count = len(part) if wanted < 0 else min(wanted, len(part))
            found.append(runner.run([Span(part, begin, blocks, count, length=len(ids))]))
        begin += size
    return torch.cat(found)


def oracle(model: LanguageModel, ids: list[int], monkeypatch: pytest.MonkeyPatch, layers: int | None = None) -> Tensor:
    """Hidden states of the modules, products in plain torch."""
    with monkeypatch.context() as patch, torch.inference_mode():
        patch.setattr(library, "kernels", lambda: None)
        return model.decoder(torch.tensor([ids]), layers=layers)[0]


def errors(found: Tensor, expected: Tensor) -> Tensor:
    """Of each row, relative to the largest number of it."""
    return (found - expected).abs().amax(-1) / expected.abs().amax(-1)


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("family", [*FAMILIES, *MORE])
def test_hidden_states_are_those_of_the_modules(
    packed: Packed, family: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = packed(family, weights)
    runner, worst = fused(model), []
    for number, ids in enumerate(prompts([1, 2, 3, 5, 7, 9, 12, 15, 17, 20], seed=1)):
        found = read(runner, ids, shuffled(len(ids), number))
        worst.append(float(errors(found, oracle(model, ids, monkeypatch)).max()))
    assert max(worst) < CODES, worst
    assert sum(error < ROUNDING for error in worst) >= 5, worst


@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
def test_logits_are_those_of_the_head(packed: Packed, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = packed(family)
    hidden_RC = read(fused(model), prompts([40])[0], shuffled(40))
    with monkeypatch.context() as patch:
        patch.setattr(library, "kernels", lambda: None)
        expected_RV = model.decoder.head(hidden_RC)
    found_RV = fused(model).head(hidden_RC)
    assert found_RV.dtype == torch.float32
    assert float(errors(found_RV, expected_RV).max()) < ROUNDING


@pytest.mark.parametrize("family", ["mistral-300", "llama-long"])
def test_long_texts_are_those_of_the_modules(packed: Packed, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several spans of attention, which the window begins and ends within."""
    model, ids = packed(family), prompts([620])[0]
    found = errors(read(fused(model), ids, shuffled(620)), oracle(model, ids, monkeypatch))
    for begin in range(0, 620, 62):
        assert float(found[begin : begin + 62].median()) < 1e-4
        assert float(found[begin : begin + 62].max()) < CODES


@pytest.mark.parametrize("family", ["llama3", "dynamic", "longrope"])
def test_scaled_positions_are_those_of_the_modules(
    packed: Packed, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the length at which scaling begins; what an early token reads depends on how long its text is."""
    model, worst = packed(family), []
    for number, ids in enumerate(prompts([132, 140, 151, 160, 133, 147], seed=2)):
        found = read(fused(model), ids, shuffled(len(ids), number))
        worst.append(errors(found, oracle(model, ids, monkeypatch)))
        assert float(worst[-1].max()) < CODES
    early = torch.stack([each[:16].max() for each in worst])
    assert int((early < ROUNDING).sum()) >= 3, early


@pytest.mark.parametrize("kv", KINDS)
@pytest.mark.parametrize(
    ("family", "weights"),
    [("qwen3", "int8"), ("gemma2", "int4"), ("phi3", "int8"), ("mistral-300", "int4"), ("longrope", "int8"),
     ("llama-odd", "int8")],
)  # fmt: skip
def test_a_row_is_the_same_however_it_is_read(packed: Packed, family: str, weights: str, kv: torch.dtype) -> None:
    """In one piece, in parts of any size, among others, by one to three threads, in other blocks: to the bit."""
    model = packed(family, weights)
    length = min(model.config.max_length, 600)
    ids, other = prompts([length, 90], seed=4)
    whole, beside = read(fused(model, kv=kv), ids, shuffled(length)), read(fused(model, kv=kv), other, shuffled(90))
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        runner, chooser = fused(model, kv=kv), random.Random(threads)
        blocks = random.Random(threads).sample(range(1, 200), 44)
        lines: list[list[Tensor]] = [[], []]
        begins, texts, tables = [0, 0], [ids, other], [blocks[:38], blocks[38:]]
        while begins[0] < length:
            spans, rows = [], []
            for row in (1, 0):
                size = min(chooser.choice([1, 1, 2, 5, 17, 40, 160]), len(texts[row]) - begins[row])
                if size and (row == 0 or chooser.random() < 0.7):
                    part = texts[row][begins[row] : begins[row] + size]
                    spans.append(Span(part, begins[row], tables[row], size, length=len(texts[row])))
                    rows.append(row)
                    begins[row] += size
            for row, part in zip(rows, runner.run(spans).split([span.wanted for span in spans]), strict=True):
                lines[row].append(part)
        assert torch.equal(torch.cat(lines[0]), whole)
        assert torch.equal(torch.cat(lines[1]), beside[: begins[1]])
        assert torch.equal(runner.head(whole)[5], runner.head(whole[5:6])[0])


def test_vectors_and_tiles_give_the_same_bits(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = packed("llama", "int4"), prompts([100])[0]
    on_tiles = read(fused(model), ids, shuffled(100))
    monkeypatch.setenv("INGOT_KERNELS", "vectors")
    assert torch.equal(read(fused(model), ids, shuffled(100)), on_tiles)


@pytest.mark.parametrize("wanted", [0, 1, 7])
def test_only_what_is_wanted_is_given(packed: Packed, wanted: int) -> None:
    model, (first, second) = packed("qwen2"), prompts([40, 60])
    runner = fused(model)
    whole = [read(runner, ids, shuffled(len(ids), 1)) for ids in (first, second)]
    spans = [Span(first, 0, shuffled(40, 2), wanted), Span(second, 0, list(range(150, 160)), 3)]
    found = runner.run(spans)
    assert torch.equal(found, torch.cat((whole[0][40 - wanted :], whole[1][57:])))
    assert torch.equal(runner.run([Span([7], 40, shuffled(40, 2), 1)]), runner.run([Span([7], 40, shuffled(40, 2), 1)]))


def test_the_first_layers_alone(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = packed("llama"), prompts([11])[0]
    found = fused(model).run([Span(ids, 0, shuffled(11), 11)], layers=1)
    assert float(errors(found, oracle(model, ids, monkeypatch, layers=1)).max()) < ROUNDING


def test_blocks_are_shared_and_copied(packed: Packed) -> None:
    model, ids = packed("qwen3"), prompts([48])[0]
    runner = fused(model)
    whole = read(runner, ids, [5, 9, 2])
    runner.copy_block(9, 77)
    assert torch.equal(runner.run([Span(ids[32:], 32, [5, 77, 30], 16)]), whole[32:])
    assert torch.equal(runner.run([Span(ids[16:], 16, [5, 40, 41], 32)]), whole[16:])


@pytest.mark.parametrize("kv", KINDS)
@pytest.mark.parametrize("family", ["mistral", "llama-odd", "llama-long"])
def test_what_blocks_held_before_is_never_read(packed: Packed, family: str, kv: torch.dtype) -> None:
    """All of the memory holds NaN: a weight of zero would not hide it."""
    model, ids = packed(family), prompts([75])[0]
    clean, dirty = fused(model, kv=kv), fused(model, kv=kv)
    dirty._pool_NB.fill_(255)
    sizes = [3, 1, 1, 30, 16]
    found = read(dirty, ids, shuffled(75), sizes)
    assert bool(found.isfinite().all())
    assert torch.equal(found, read(clean, ids, shuffled(75), sizes))


@pytest.mark.parametrize("kv", KINDS)
@pytest.mark.parametrize("family", ["llama-odd", "gemma2", "phi3"])
def test_a_block_takes_what_is_counted_for_it(packed: Packed, family: str, kv: torch.dtype) -> None:
    """By what the cache is dealt out by: of the memory, a text in one block touches all of that block and no other."""
    model, counted = packed(family), BLOCK * token_bytes(packed(family).config, kv)
    runner, found = fused(model, num_blocks=5, kv=kv), []
    for byte in (0, 255):
        runner._pool_NB.fill_(byte)
        read(runner, prompts([BLOCK])[0], [3])
        found.append(runner._pool_NB != byte)
    assert (found[0] | found[1]).any(1).tolist() == [False, False, False, True, False]
    assert bool((found[0] | found[1])[3].all())
    assert runner._pool_NB.shape == (5, counted)
    assert KVCache(model.config, BLOCK, model.device, kv).nbytes == counted


@pytest.mark.parametrize("kv", KINDS)
def test_kept_keys_and_values_hide_no_nan(packed: Packed, kv: torch.dtype) -> None:
    model = copy.deepcopy(packed("llama"))
    model.network.embedding.weight.data[7, 3] = torch.nan
    found = read(fused(model, kv=kv), [5, 7, 9, 11], [2], sizes=[1, 1, 1])
    assert found.isnan().all(-1).tolist() == [False, True, True, True]


def keys_and_values(runner: FusedRunner, block: int, kv: torch.dtype) -> tuple[Tensor, Tensor]:
    """What a block of a network of one layer holds, (heads, tokens, head_dim)."""
    config = runner.model.config
    heads, depth = config.num_kv_heads, config.head_dim
    parts = runner._pool_NB[block].view(heads, -1)
    split = 16 * depth * kv.itemsize
    k, v = (parts[:, at : at + split].contiguous().view(kv) for at in (0, split))
    if kv == torch.bfloat16:
        k = k.view(heads, depth // 2, 16, 2).permute(0, 2, 1, 3).reshape(heads, 16, depth)
        v = v.view(heads, 8, depth, 2).permute(0, 1, 3, 2).reshape(heads, 16, depth)
        return k.float(), v.float()
    k, v = k.view(heads, depth, 16).transpose(1, 2).float(), v.view(heads, 16, depth).float()
    if kv == torch.float32:
        return k, v
    scales = parts[:, 2 * split :].contiguous().view(torch.float32).view(heads, 2, 16, 1)
    return k * scales[:, 0], v * scales[:, 1]


@pytest.mark.parametrize("family", ["llama-long", "mistral-300"])
def test_kept_keys_and_values_are_as_near_as_their_numbers_allow(packed: Packed, family: str) -> None:
    """bfloat16: half of its last bit. int8: half a code, of 127 for the largest of a token and head."""
    model, ids, held = packed(family), prompts([16])[0], {}
    for kv in KINDS:
        runner = fused(model, kv=kv)
        read(runner, ids, [3])
        held[kv] = keys_and_values(runner, 3, kv)
    for exact, half, eight in zip(*(held[kv] for kv in KINDS), strict=True):
        assert torch.equal(half, exact.bfloat16().float())
        assert bool(((eight - exact).abs() <= exact.abs().amax(-1, keepdim=True) / 127 * 0.5001).all())
        assert not torch.equal(eight, exact)


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
def test_embeddings_of_any_dtype_are_looked_up(packed: Packed, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = packed("qwen2", stored=stored)
    ids = prompts([6], seed=3)[0]
    assert float(errors(read(fused(model), ids, [4]), oracle(model, ids, monkeypatch)).max()) < CODES


def test_angles_are_made_once_and_the_same(packed: Packed) -> None:
    """Of a table that grew, of one made at once, and of the network's own."""
    network = packed("llama3").decoder
    grown, whole = AngleTables(network), AngleTables(network)
    for stop in (1, PIECE + 1, 3 * PIECE, 1000):
        grown.at([range(stop)], [stop])
    whole.at([range(1000)], [1000])
    for one, other in zip(grown._read[0], whole._read[0], strict=True):
        length = min(len(one), len(other))
        assert length >= 1000
        assert torch.equal(one[:length], other[:length])
    cos, _ = network.rotary[0](torch.arange(1000)[None], None, torch.float32)
    assert torch.allclose(grown._read[0][0][:1000], cos[0, 0], atol=1e-6)


@pytest.mark.parametrize("family", ["mixtral", "gpt2"])
def test_other_families_run_their_modules_and_say_why(packed: Packed, family: str) -> None:
    model = packed(family)
    assert why_not_fused(model) == "family"
    assert isinstance(make_runner(model, 4, 0, torch.float32), TorchRunner)


def test_every_reason_has_its_case(packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("reasons")
    plain = load(write_model(folder / "plain", LLAMA))
    assert why_not_fused(plain) == "dense"
    assert refusal(plain.network) == "dense"
    both_ways = load(write_model(folder / "both", LLAMA | {"prefix_lm": True}), weights="int8")
    assert why_not_fused(both_ways) == "prefix"
    narrow = LLAMA | {"hidden_size": 40, "head_dim": 8}
    assert why_not_fused(load(write_model(folder / "narrow", narrow), weights="int8")) == "shape"
    assert why_not_fused(packed("llama")) is None
    assert why_not_fused(replace(packed("llama"), adapters=(LoRA(8, 16.0, 0.0, ALL_LINEAR),))) == "adapters"


def test_without_kernels_modules_run(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    model = packed("llama")
    monkeypatch.setenv("INGOT_KERNELS", "off")
    assert isinstance(make_runner(model, 4, 0, torch.float32), TorchRunner)


@pytest.mark.parametrize("speculation", [Speculation(), Speculation(kind="self", tokens=3, always=True)])
def test_the_engine_gives_the_same_tokens_in_any_company(packed: Packed, speculation: Speculation) -> None:
    """Alone, in a batch, after what the cache holds, and with guesses of the first layers."""
    model, asked = packed("qwen3", "int4"), prompts()
    alone = []
    for prompt, own in zip(asked, MIXED, strict=True):
        engine = Engine(model, num_slots=1)
        assert isinstance(engine.runner, FusedRunner)
        alone.append(engine.submit(prompt, own))
        run(engine)
    engine = Engine(model, num_slots=4, prefill_tokens=7, speculation=speculation)
    for _ in range(2):
        beside = [engine.submit(prompt, own) for prompt, own in zip(asked, MIXED, strict=True)]
        run(engine)
        assert [each.tokens for each in beside] == [each.tokens for each in alone]
        own = [each.seed for each in alone]
        assert own[1:] == [each.seed for each in beside][1:]
