"""What lies in front of every text while an engine writes: in the cache, put there once, the same tokens as ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapting import put, write
from peft_pairs import IDS

from cases import first_fast
from ingot.adapt.load import LanguageModel, load
from ingot.adapt.methods import begin
from ingot.adapt.prefix import PrefixPart
from ingot.adapt.prompt import PromptPart
from ingot.evaluate.context.passkey import likelihood
from ingot.infer.engine import Engine, generate
from ingot.infer.likelihood import batch_logprobs
from ingot.infer.sampling import Sampling
from ingot.model.encoder_decoder import EncoderDecoder
from tiny import BART, BLOOM, GEMMA3, GPT2, LLAMA, MISTRAL, QWEN2, T5, make_random_network, write_model

IN_FRONT = ["prefix", "prompt"]
PROMPTS = [[5, 6, 7], [9], list(range(10, 40)), [4, 4]]
CONTROL = Sampling(temperature=0, max_tokens=12, ignore_eos=True)
LONGROPE = LLAMA | {
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 16,
                        "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 3.0, 4.0, 5.0]},
}  # fmt: skip


def naive(model: LanguageModel, prompt: list[int], count: int = 12) -> list[int]:
    """The same tokens by a whole pass for each."""
    ids, is_pair = list(prompt), isinstance(model.network, EncoderDecoder)
    if is_pair:
        ids = [model.start_id or 0]
    first = len(ids)
    for _ in range(count):
        ids.append(int(model.logits([ids], [prompt] if is_pair else None)[0, -1].argmax()))
    return ids[first:]


def run(model: LanguageModel, prompts: list[list[int]], num_slots: int, prefill_tokens: int) -> list[list[int]]:
    engine = Engine(model, num_slots, prefill_tokens)
    sequences = [engine.submit(prompt, CONTROL) for prompt in prompts]
    while engine.has_work:
        engine.step()
    return [sequence.tokens for sequence in sequences]


ENDS = {"eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0}
SHAPES = {"llama": LLAMA, "mistral": MISTRAL, "gpt2": GPT2, "bloom": BLOOM, "gemma3": GEMMA3, "t5": T5 | ENDS,
          "bart": BART | {"decoder_layers": 2} | ENDS}  # fmt: skip


@first_fast("name", SHAPES)
@first_fast("method", IN_FRONT)
def test_alone_and_batched_are_the_naive_loop(method: str, name: str, tmp_path: Path) -> None:
    """Read in parts, more sequences than slots, slots used again, windows shorter than what lies in front."""
    base = write_model(tmp_path / "base", SHAPES[name])
    model = load(f"{base}+{write(tmp_path / 'a', base, method)}")
    expected = [naive(model, prompt) for prompt in PROMPTS]
    assert expected != [naive(load(base), prompt) for prompt in PROMPTS]
    assert run(model, PROMPTS, num_slots=2, prefill_tokens=5) == expected
    assert run(model, PROMPTS, num_slots=4, prefill_tokens=512) == expected
    assert [run(model, [prompt], 1, 512)[0] for prompt in PROMPTS] == expected


@pytest.mark.parametrize("method", IN_FRONT)
def test_by_rows_each_has_its_own(method: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", QWEN2)
    other = {"prefix": "prompt", "prompt": "prefix"}[method]
    a, b = write(tmp_path / "a", base, method, 1), write(tmp_path / "b", base, other, 2)
    c = write(tmp_path / "c", base, "lora", 3)
    model = load(f"{base}+{a}+{b}+{c}")
    prompts = [[5, 6, 7], [9, 8, 7], [5, 6, 7], [11, 12, 13]]
    with model.active.rows(["a", None, "b", ("a", "c")]):
        mixed = run(model, prompts, num_slots=4, prefill_tokens=512)
    models = [load(f"{base}+{a}"), load(base), load(f"{base}+{b}"), load(f"{base}+{a}+{c}")]
    expected = [naive(one, prompt) for one, prompt in zip(models, prompts, strict=True)]
    assert mixed == expected
    with model.active.rows([("a", "c"), "a"]):
        assert run(model, [prompts[3], prompts[0]], num_slots=2, prefill_tokens=512) == [expected[3], expected[0]]


@pytest.mark.parametrize("method", IN_FRONT)
def test_it_is_worked_out_once_a_sequence(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    model = load(f"{base}+{write(tmp_path / 'a', base, method)}")
    batches: list[int] = []
    for kind in (PrefixPart, PromptPart):
        plain = kind.remembered
        monkeypatch.setattr(kind, "remembered", lambda *given, plain=plain: batches.append(given[2]) or plain(*given))
    generate(model, PROMPTS[:2], CONTROL, num_slots=1)
    assert batches == [1, 1]


@pytest.mark.parametrize("method", IN_FRONT)
def test_positions_that_depend_on_the_length_do_so_behind_a_front(method: str, tmp_path: Path) -> None:
    """LongRoPE: a prompt read beyond the crossing has the long factors from its first pass on."""
    base = write_model(tmp_path / "base", LONGROPE)
    model = load(f"{base}+{write(tmp_path / 'a', base, method)}")
    prompt = list(range(10, 23))  # inside the first 16 positions alone, beyond them behind 6
    assert run(model, [prompt], 1, prefill_tokens=7) == [naive(model, prompt)]
    scores = likelihood(model)(prompt, [[5, 6], [7, 8]])
    whole = batch_logprobs(model, [[*prompt, 5, 6], [*prompt, 7, 8]])
    assert scores == pytest.approx([float(row[len(prompt) - 1 :].sum()) for row in whole], abs=1e-3)


@pytest.mark.parametrize("config", [T5, T5 | {"num_decoder_layers": 2}, BART | {"decoder_layers": 2}])
def test_a_prefix_begins_as_what_the_decoder_remembers_of_a_text(config: dict[str, Any]) -> None:
    """Of a text that was its own source; every layer has keys of its own, whatever PEFT's file calls it."""
    network, text = make_random_network(config), [7, 30, 99, 12, 5, 61]
    source = torch.tensor([text, text])
    with torch.no_grad():
        whole = network(torch.cat((source, IDS), 1), source_ids_BS=source)[:, len(text) :]
        put(network, "prefix")
        begin(network, "made", text)
        assert (network(IDS, source_ids_BS=source) - whole).abs().max() <= 1e-5


@pytest.mark.parametrize("config", [T5, BART])
def test_packed_targets_each_see_the_prefix(config: dict[str, Any]) -> None:
    network, lengths = make_random_network(config), [7, 13]
    put(network, "prefix")
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    segments = torch.tensor([[0] * lengths[0] + [1] * lengths[1]])
    with torch.no_grad():
        packed = network(IDS[:1], positions, segments, source_ids_BS=IDS[1:], source_segments_BS=segments)
        pairs = zip(IDS[:1].split(lengths, 1), IDS[1:].split(lengths, 1), strict=True)
        alone = torch.cat([network(target, source_ids_BS=source) for target, source in pairs], 1)
    assert (packed - alone).abs().max() <= 1e-5
