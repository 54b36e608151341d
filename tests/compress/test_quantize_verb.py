"""The verb quantize: what it writes, what transformers makes of it, what it reports, what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from compressing import MakeModel, rewrite, state, write_lora

from cases import first_fast
from ingot.adapt.load import load
from ingot.compress.merge_verb import merge
from ingot.compress.quantize_verb import quantize
from ingot.core.errors import IngotError
from ingot.model.quantized import dequantize
from ingot.model.rtn import QUANTIZERS
from ingot.model.rtn import quantize as quantize_tensor
from tiny import GPT2, LLAMA, QWEN2, QWEN3

IDS = [[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]]
SMALL: dict[str, Any] = {"tokens": 64}


def naive_logits(source: Path, bits: int, group: int | None, method: str = "mse") -> torch.Tensor:
    """The original model with every linear weight but the head replaced by its rounded self."""
    model = load(source)
    for name, module in model.decoder.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            found = quantize_tensor(module.weight, bits, group, QUANTIZERS[method])
            module.weight.copy_(dequantize(found.codes, found.scale))
    return model.logits(IDS)


@first_fast(("bits", "group"), [(8, None), (4, None), (4, 16), (8, 8)])
def test_the_reopened_model_is_the_rounded_model(make_model: MakeModel, tmp_path: Path, bits: int, group: int) -> None:
    source = make_model("a")
    quantize(str(source), bits=bits, group_size=group, out=tmp_path / "q", **SMALL)
    expected = naive_logits(source, bits, group or {8: None, 4: 32}[bits])
    assert torch.equal(load(tmp_path / "q").logits(IDS), expected)
    assert not torch.equal(load(source).logits(IDS), expected)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(
    ("config", "changes"),
    [(LLAMA, {}), (QWEN2, {}), (QWEN3, {}), (LLAMA, {"intermediate_size": 86}), (LLAMA, {"tie_word_embeddings": True})],
)
def test_transformers_opens_it_with_the_same_logits(
    make_model: MakeModel, tmp_path: Path, bits: int, config: dict[str, Any], changes: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM

    quantize(str(make_model("a", config, **changes)), bits=bits, out=tmp_path / "q", **SMALL)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "q").eval()
    with torch.inference_mode():
        logits = theirs(torch.tensor(IDS)).logits
    assert torch.allclose(logits, load(tmp_path / "q").logits(IDS), atol=1e-4)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_transformers_opens_a_quantised_head(make_model: MakeModel, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    quantize(str(make_model("a")), bits=4, head=True, ignore=["re:.*v_proj"], out=tmp_path / "q", **SMALL)
    names = state(tmp_path / "q").keys()
    assert "lm_head.weight_packed" in names
    assert "model.layers.1.self_attn.v_proj.weight" in names
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "q").eval()
    with torch.inference_mode():
        logits = theirs(torch.tensor(IDS)).logits
    assert torch.allclose(logits, load(tmp_path / "q").logits(IDS), atol=1e-4)


def test_the_report_has_every_figure(make_model: MakeModel, tmp_path: Path, text_file: Path) -> None:
    numbers = quantize(str(make_model("a")), bits=4, out=tmp_path / "q", data=text_file).summary()
    assert 0 < numbers["kl"] < 1
    assert 0.3 < numbers["top1_agreement"] < 1
    assert numbers["bits_per_byte"] > 0
    assert numbers["bits_per_byte_before"] > 0
    assert numbers["worst_error"] == pytest.approx(max(numbers["layer_errors"].values()), abs=1e-6)
    assert len(numbers["layer_errors"]) == numbers["quantized_layers"] == 14
    assert numbers["bytes"] == (tmp_path / "q" / "model.safetensors").stat().st_size < numbers["bytes_before"]
    assert numbers["tokens_per_second"] > 0
    assert numbers["weights"].startswith("int4"), "timed as it is written with"
    hallmark = json.loads((tmp_path / "q" / "hallmark.json").read_text())["step"]
    assert hallmark["data"][0]["name"] == "heldout.txt"
    assert hallmark["proof"][0]["difference"] == 0
    assert [parent["name"] for parent in hallmark["parents"]] == ["a"]


def test_bits_per_byte_count_each_byte_of_the_text_once(make_model: MakeModel, tmp_path: Path, text_file: Path) -> None:
    """A model that finds every token equally likely needs log2(vocabulary) bits a token."""
    source = make_model("a")
    rewrite(source, lm_head__weight=torch.zeros(320, 32))
    text_file.write_text(text_file.read_text() + "\n<|endoftext|>\n" + "貓在墊子上 and so on. " * 30)
    numbers = quantize(str(source), out=tmp_path / "q", data=text_file).summary()
    texts = text_file.read_text().split("\n<|endoftext|>\n")
    tokenizer = load(source).tokenizer
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    assert numbers["compared_tokens"] == tokens
    assert numbers["bits_per_byte"] == pytest.approx(tokens * torch.log2(torch.tensor(320.0)).item() / size, rel=0.05)
    assert numbers["kl"] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_more_bits_and_better_scales_cost_less(make_model: MakeModel, tmp_path: Path, text_file: Path) -> None:
    source = str(make_model("a"))
    kl = [
        quantize(source, bits=bits, method=method, out=tmp_path / f"{bits}{method}", data=text_file).summary()["kl"]
        for bits, method in ((8, "mse"), (4, "mse"), (4, "absmax"))
    ]
    assert kl == sorted(kl)


@pytest.mark.slow
def test_size_is_what_theory_says(make_model: MakeModel, tmp_path: Path) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "head_dim": 32}
    numbers = quantize(str(make_model("a", **sizes)), bits=4, out=tmp_path / "q", **SMALL).summary()
    linear = 2 * (128 * 128 * 2 + 64 * 128 * 2 + 3 * 128 * 512)
    rest = 2 * 320 * 128 + 128 * 5
    theory = linear * (4 / 8 + 4 / 32) + 4 * rest
    assert numbers["bits_per_weight"] == pytest.approx(5, rel=0.01)
    assert numbers["bytes"] == pytest.approx(theory, rel=0.02)


@pytest.mark.slow
def test_an_adapter_is_merged_on_the_way(make_model: MakeModel, tmp_path: Path) -> None:
    base = make_model("a")
    reference = f"{base}+{write_lora(tmp_path / 'lora', base)}"
    merge(reference, out=tmp_path / "merged", **SMALL)
    quantize(str(tmp_path / "merged"), bits=4, out=tmp_path / "one", **SMALL)
    quantize(reference, bits=4, out=tmp_path / "two", **SMALL)
    one, two = (state(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_a_row_that_the_group_does_not_divide_gets_the_nearest_group(make_model: MakeModel, tmp_path: Path) -> None:
    quantize(str(make_model("a", intermediate_size=86)), bits=4, out=tmp_path / "q", **SMALL)
    groups = json.loads((tmp_path / "q" / "config.json").read_text())["quantization_config"]["config_groups"].values()
    sizes = {group["weights"]["group_size"]: group["targets"] for group in groups}
    assert sizes.keys() == {32, 43}
    assert [re.match(sizes[43][0].removeprefix("re:"), f"model.layers.{n}.mlp.down_proj") is not None for n in (0, 1)]


REFUSED = {
    "group-does-not-divide": (LLAMA | {"intermediate_size": 74}, {"bits": 4, "group_size": 16}, "down_proj.weight.*74"),
    "conv1d-not-quantized": (GPT2, {}, r"h\.0\.attn\.c_attn"),
    "ignore-nothing": (LLAMA, {"ignore": ["model.layers.0.mlp.donw_proj"]}, r"model\.layers\.0\.mlp\.down_proj"),
    "tied-head": (QWEN2, {"head": True}, "tie_word_embeddings"),
    "nothing-to-quantize": (LLAMA, {"ignore": ["re:.*"]}, "no layer"),
    "unknown-quantizer": (LLAMA, {"method": "msee"}, "mean mse"),
    "bad-option": (LLAMA, {"bits": 3}, "bits"),
}


@pytest.mark.parametrize("code", sorted(REFUSED))
def test_what_cannot_be_done_is_refused_by_name(make_model: MakeModel, tmp_path: Path, code: str) -> None:
    config, options, words = REFUSED[code]
    with pytest.raises(IngotError, match=words) as error:
        quantize(str(make_model("a", config)), out=tmp_path / "q", **options)
    assert error.value.code == code
    assert not (tmp_path / "q").exists()


@pytest.mark.slow
def test_a_quantised_model_is_not_quantised_again(make_model: MakeModel, tmp_path: Path) -> None:
    quantize(str(make_model("a")), out=tmp_path / "q", **SMALL)
    with pytest.raises(IngotError, match="already quantised"):
        quantize(str(tmp_path / "q"), out=tmp_path / "qq")


def test_nan_is_refused_by_tensor_and_nothing_is_left(make_model: MakeModel, tmp_path: Path) -> None:
    source = make_model("a")
    bad = torch.rand(32, 64)
    bad[1, 2] = float("nan")
    rewrite(source, model__layers__1__mlp__down_proj__weight=bad)
    with pytest.raises(IngotError, match=r"model\.layers\.1\.mlp\.down_proj\.weight.* 1 value"):
        quantize(str(source), out=tmp_path / "q")
    assert not (tmp_path / "q").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_was_written_wrongly_is_not_kept(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packer that loses a bit is caught by the proof."""
    import ingot.model.quantized as storage

    honest = storage.pack
    monkeypatch.setattr(storage, "pack", lambda codes, bits: honest(codes, bits) ^ 1)
    with pytest.raises(IngotError, match="differ from what was meant"):
        quantize(str(make_model("a")), out=tmp_path / "q", **SMALL)
    assert not (tmp_path / "q").exists()
