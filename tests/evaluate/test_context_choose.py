"""`context choose`: its numbers against naive recomputation, its recommendation, and what it refuses."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ingot
from ingot.core.errors import IngotError
from ingot.core.report import Plot, Prose, Report, Table
from ingot.evaluate.context import memory
from ingot.evaluate.context.lengths import Lengths, candidates, count, smallest
from ingot.model.cache import KVCache
from ingot.model.config import ModelConfig
from ingot.model.families.moe import MoEConfig
from ingot.text.tokenizer import Tokenizer
from tiny import GPT2, LLAMA, MIXTRAL, QWEN3, QWEN3_MOE, make_decoder, write_model, write_tokenizer


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(2, 400))
def test_shares_are_what_counting_tokens_gives(documents: list[int], window: int) -> None:
    lengths = Lengths(Counter(documents), documents)
    tokens = [(length, place) for length in documents for place in range(length)]
    assert lengths.tokens == len(tokens)
    assert lengths.whole(window) == sum(length <= window for length in documents) / len(documents)
    assert lengths.kept(window) == pytest.approx(sum(place < window for _, place in tokens) / len(tokens))
    assert lengths.quantile(0.5) == sorted(documents)[(len(documents) + 1) // 2 - 1]
    histogram = lengths.histogram()
    assert sum(found for _, found, _ in histogram) == len(documents)
    assert sum(found for _, _, found in histogram) == len(tokens)


@settings(deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(2, 64))
def test_filled_is_what_naive_best_fit_gives(documents: list[int], window: int) -> None:
    if max(documents) < 2:
        return  # nothing to be predicted, which the packer refuses
    pieces = [min(window, length - at) for length in documents for at in range(0, length, window)]
    rooms: list[int] = []
    for piece in sorted(pieces, reverse=True):
        fitting = [room for room in rooms if room >= piece]
        if fitting:
            rooms[rooms.index(min(fitting))] -= piece
        else:
            rooms.append(window - piece)
    expected = sum(documents) / (len(rooms) * window)
    assert Lengths(Counter(documents), documents).filled(window, 10**9) == pytest.approx(expected)


def test_the_smallest_window_that_keeps_enough() -> None:
    lengths = Lengths(Counter({100: 9, 1000: 1}), [100] * 9 + [1000])  # 1900 tokens; a window of 500 keeps 1400
    assert smallest(lengths, [100, 500, 1000, 2000], 0.73) == 500
    assert smallest(lengths, [100, 500, 1000, 2000], 0.74) == 1000
    assert smallest(lengths, [100, 500], 0.95) is None
    assert candidates(lengths, None) == [64, 128, 256, 512, 1024]
    assert candidates(lengths, 700) == [64, 128, 256, 512, 700, 1024]


def test_counting_includes_what_ends_a_document(tmp_path: Path) -> None:
    tokenizer = Tokenizer.open(write_tokenizer(tmp_path / "tok"))
    texts = ["the cat", "the dog ran", "天空"] * 5
    around = len(tokenizer.start_ids) + 1
    found = count(texts, tokenizer, 0)
    assert found.counts == Counter(len(tokenizer.encode(text)) + around for text in texts)
    assert sorted(found.sample) == sorted(found.counts.elements())


@pytest.mark.parametrize(
    "config",
    [LLAMA, QWEN3 | {"num_hidden_layers": 5}, GPT2, MIXTRAL, QWEN3_MOE],
    ids=["llama", "qwen3", "gpt2", "mixtral", "qwen3-moe"],
)
def test_memory_is_what_a_forward_pass_keeps(config: dict[str, Any]) -> None:
    """Bytes of everything autograd keeps of a real row, weights left out."""
    decoder = make_decoder(config).requires_grad_(True)
    read = ModelConfig.read(config, Path("config.json"))
    weights = {parameter.untyped_storage().data_ptr() for parameter in decoder.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = decoder(torch.zeros(1, 96, dtype=torch.long))
    measured = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)
    assert 96 * memory.activation_bytes(read) == pytest.approx(
        measured, rel=0.15 if isinstance(read, MoEConfig) else 0.05
    )
    assert hidden.requires_grad
    cache = KVCache(read, 96, torch.device("cpu"), torch.float32)
    assert memory.kv_bytes(read, 96) == cache.nbytes
    assert memory.num_parameters(read) == sum(parameter.numel() for parameter in decoder.parameters())


def test_attention_takes_the_share_that_counted_operations_have() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    config = LLAMA | {"num_key_value_heads": 4}
    decoder, read = make_decoder(config), ModelConfig.read(config, Path("config.json"))
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        decoder.head(decoder(torch.zeros(1, 128, dtype=torch.long)))
    by_kind = {str(kind): flops for kind, flops in counter.get_flop_counts()["Global"].items()}
    attention = by_kind.pop("aten.bmm") / 2  # counted as if every token saw all others
    share = attention / (attention + sum(by_kind.values()))
    assert memory.attention_share(read, 128) == pytest.approx(share, rel=0.02)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    texts = ["the cat sat on the mat and the dog ran. 天空是藍色的。" * (1 + number % 9) for number in range(60)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def test_the_report(data: Path, tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tok")
    report = ingot.context_choose(
        write_model(tmp_path / "m", tokenizer=tokenizer), data=data, out=tmp_path / "r", windows=["64,128", 256]
    )
    opened = Tokenizer.open(tokenizer)
    around = len(opened.start_ids) + 1
    lengths = [len(opened.encode(json.loads(line)["text"])) + around for line in data.read_text().splitlines()]
    table = next(section for section in report.sections if isinstance(section, Table))
    assert [row[0] for row in table.rows] == [64, 128, 256]
    for row in table.rows:
        window = row[0]
        assert row[1] == sum(length <= window for length in lengths) / len(lengths)
        assert row[2] == pytest.approx(1 - sum(min(length, window) for length in lengths) / sum(lengths))
        assert row[4] == window / 64
        assert row[6] == 2 * 2 * 2 * 8 * window * 4
    said = next(section for section in report.sections if isinstance(section, Prose)).text
    assert "Take a window of" in said
    assert "建議視窗" in said
    assert sum(isinstance(section, Plot) for section in report.sections) == 3
    chosen = report.numbers["recommended_window"]
    kept = {row[0]: 1 - row[2] for row in table.rows}
    assert chosen == min(window for window, share in kept.items() if share >= 0.95)
    assert Report.open(tmp_path / "r").numbers == report.numbers


@pytest.mark.slow
def test_a_tokenizer_alone_has_no_memory_columns(data: Path, tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tok")
    report = ingot.context_choose(tokenizer, data=data, out=tmp_path / "r", windows=[4, 8], keep=0.99)
    table = next(section for section in report.sections if isinstance(section, Table))
    assert len(table.columns) == 5
    assert report.numbers["recommended_window"] is None
    assert "None of the windows" in next(s for s in report.sections if isinstance(s, Prose)).text
    named = ingot.context_choose(tokenizer, data=data, out=tmp_path / "s", model=write_model(tmp_path / "m"))
    assert len(next(section for section in named.sections if isinstance(section, Table)).columns) == 8
    half = ingot.context_choose(
        tokenizer, data=data, out=tmp_path / "h", model=tmp_path / "m", precision="bf16", sample_tokens=50, seed=1
    )
    whole, halved = (next(s for s in one.sections if isinstance(s, Table)).rows[-1] for one in (named, half))
    assert (halved[6], halved[7]) == (whole[6] / 2, whole[7] / 2)


def test_windows_with_commas_on_the_command_line(data: Path, tmp_path: Path) -> None:
    from ingot import cli

    tokenizer = write_tokenizer(tmp_path / "tok")
    words = ["context", "choose", str(tokenizer), "--data", str(data), "--out", str(tmp_path / "r")]
    assert cli.main([*words, "--windows", "128,64"]) == 0
    assert Report.open(tmp_path / "r").options["windows"] == [64, 128]


def test_refusals(data: Path, tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tok")

    def refused(code: str, *args: Any, **options: Any) -> None:
        with pytest.raises(IngotError) as caught:
            ingot.context_choose(*args, out=tmp_path / "r", **options)
        assert caught.value.code == code
        assert not (tmp_path / "r").exists()

    refused("bad-option", tokenizer, data=data, windows=["64,x"])
    refused("bad-option", tokenizer, data=data, windows=[1])
    refused("bad-option", tokenizer, data=data, keep=1.5)
    refused("not-a-model", tokenizer, data=data, model=tokenizer)
    refused("no-such-data", tokenizer, data=tmp_path / "nothing.jsonl")
    refused("no-such-directory", tmp_path / "nothing", data=data)
