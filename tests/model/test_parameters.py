"""Parameter tables from shapes alone: published figures, the networks themselves, torch's own FLOP counter."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import ingot
import tiny
from ingot.core.errors import IngotError
from ingot.core.report import Report, Table
from ingot.model.config import ModelConfig
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.network import make_network
from ingot.model.parameters import FORMATS, PARTS, Parameters, alike, count
from ingot.model.presets import PRESETS

pytestmark = pytest.mark.slow

ALL = tiny.CONFIGS | tiny.ENCODERS | tiny.ENCODER_DECODERS


def counted(config: dict[str, Any]) -> Parameters:
    return count(ModelConfig.read(config, Path("config.json")))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_their_published_size(name: str) -> None:
    preset, found = PRESETS[name], counted(PRESETS[name].config)
    size = found.total if preset.counted == "all" else found.without_head + found.pooler
    assert (
        size == preset.published if preset.tolerance == 0 else size == pytest.approx(preset.published, preset.tolerance)
    )


def test_well_known_figures() -> None:
    mixtral, bert = counted(PRESETS["mixtral-8x7b"].config), counted(PRESETS["bert-base"].config)
    assert (round(mixtral.total / 1e9, 1), round(mixtral.active / 1e9, 1)) == (46.7, 12.9)
    assert (bert.total, bert.without_head, bert.without_head + bert.pooler) == (109_514_298, 108_891_648, 109_482_240)
    assert round(counted(PRESETS["gpt3"].config).total / 1e9) == 175
    assert counted(PRESETS["transformer-base"].config).total == 63_082_496


@pytest.mark.parametrize("name", ALL)
def test_parts_and_layers_add_up_to_the_network(name: str) -> None:
    found = counted(ALL[name])
    network = tiny.make_random_network(ALL[name])
    sizes = {weight.name: weight.shape for weight in found.weights}
    assert sizes == {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    assert sum(found.of(part) for part in PARTS) == found.total == sum(p.numel() for p in network.parameters())
    for layer, block in zip(found.layers, network.blocks, strict=True):
        assert found.of(layer=layer) == sum(parameter.numel() for parameter in block.parameters())
    assert found.of("embedding") >= network.embedding.weight.numel()
    assert all(found.of(part, layer=layer) for part in ("attention", "feed-forward", "norms") for layer in found.layers)
    assert all(found.bytes(a) > found.bytes(b) for a, b in itertools.pairwise(FORMATS))


def test_attention_of_a_llama_is_its_formula() -> None:
    found = counted(tiny.LLAMA)
    width, kv = 32, 2 * 8
    assert found.of("attention", layer="0") == 2 * width * width + 2 * width * kv
    assert found.of("feed-forward", layer="1") == 3 * width * 64
    assert (found.of("norms"), found.of("head")) == (5 * width, 320 * width)
    assert found.without_embedding == found.total - 2 * 320 * width


def flops_of(config: dict[str, Any], length: int) -> int:
    """What torch counts in a forward pass of one text of this length (and a source as long)."""
    network = tiny.make_random_network(config)
    ids = torch.zeros(1, length, dtype=torch.long)
    source = {"source_ids_BS": ids} if isinstance(network, EncoderDecoder) else {}
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused one is not in torch's table on CPU
        network.head(network(ids, **source))
    return counter.get_total_flops()


@pytest.mark.parametrize("name", [name for name in ALL if name not in {"mistral", "gemma2", "gemma3", "modernbert"}])
def test_flops_are_those_torch_counts(name: str) -> None:
    """Windows are left out: a masked kernel computes what it masks, and the plan counts only what is needed."""
    length = 6
    found = counted(ALL[name])
    assert round(sum(found.flops(part, length) for part in PARTS) * length) == flops_of(ALL[name], length)


@pytest.mark.parametrize("name", ["mistral", "gemma2", "gemma3"])
def test_a_window_limits_what_attention_costs(name: str) -> None:
    found, windows = counted(ALL[name]), [w for w in counted(ALL[name]).config.windows if w]
    grown = found.flops("attention", 105) - found.flops("attention", 5)
    free = len(found.layers) - len(windows)
    assert grown == 4 * 100 * 4 * 8 * free
    assert round(sum(found.flops(part, 5) for part in PARTS) * 5) == flops_of(ALL[name], 5)


def test_layers_alike_share_a_row() -> None:
    assert alike(counted(tiny.LLAMA)) == [("0", "1")]
    assert alike(counted(tiny.QWEN3_MOE)) == [("0", "0"), ("1", "1")]
    assert alike(counted(tiny.T5)) == [
        ("encoder 0", "encoder 0"), ("encoder 1", "encoder 1"), ("decoder 0", "decoder 0"), ("decoder 1", "decoder 2")
    ]  # fmt: skip


def test_half_of_the_experts_are_active() -> None:
    found = counted(tiny.MIXTRAL)
    experts = sum(weight.size for weight in found.weights if ".experts." in weight.name)
    assert found.active == found.total - experts // 2


@pytest.mark.peers
@pytest.mark.parametrize("name", PRESETS)
def test_transformers_has_as_many(name: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    config = dict(PRESETS[name].config)
    if config["model_type"] == "marian":
        config |= {"pad_token_id": 0, "decoder_start_token_id": 0, "bos_token_id": None}
    kind = {"bert": AutoModelForMaskedLM, "t5": AutoModelForSeq2SeqLM, "marian": AutoModelForSeq2SeqLM}
    with torch.device("meta"):
        peer = kind.get(config["model_type"], AutoModelForCausalLM).from_config(
            AutoConfig.for_model(config.pop("model_type"), **config)
        )
    fixed = sum(parameter.numel() for name, parameter in peer.named_parameters() if "embed_positions" in name)
    assert sum(parameter.numel() for parameter in peer.parameters()) - fixed == counted(PRESETS[name].config).total


def test_nothing_is_allocated() -> None:
    with torch.device("meta"):
        network = make_network(ModelConfig.read(PRESETS["gpt2"].config, Path("config.json")))
    assert all(parameter.is_meta for parameter in network.parameters())


def test_the_verb_reads_a_directory_a_preset_and_a_config(tmp_path: Path) -> None:
    model = tiny.write_model(tmp_path / "model", tiny.GPT2)
    (tmp_path / "own.json").write_text(json.dumps(tiny.GPT2))
    by_model, by_config = ingot.plan_params(str(model)), ingot.plan_params(config=tmp_path / "own.json")
    assert by_model.numbers == by_config.numbers
    assert by_model.numbers["parameters"] == sum(p.numel() for p in tiny.make_random_network(tiny.GPT2).parameters())
    assert ingot.plan_params(preset="gpt2").numbers["parameters"] == 124_439_808


def test_the_report_says_what_the_shapes_say(tmp_path: Path) -> None:
    ingot.plan_params(preset="bert-base", length=128, out=tmp_path / "report")
    report = Report.open(tmp_path / "report")
    parts = report.sections[0]
    assert isinstance(parts, Table)
    found = counted(PRESETS["bert-base"].config)
    assert [row[1] for row in parts.rows] == [*(found.of(part) for part in PARTS), found.total]
    assert report.numbers["flops_per_token"] == sum(found.flops(part, 128) for part in PARTS)
    longer = ingot.plan_params(preset="bert-base", length=256).numbers["flops_per_token"]
    assert longer > report.numbers["flops_per_token"]


def test_an_adapter_is_counted_on_top(tmp_path: Path) -> None:
    from ingot.adapt.files import write_adapter
    from ingot.adapt.load import load
    from ingot.adapt.lora import LoRA
    from ingot.adapt.methods import put_on
    from ingot.adapt.targets import Targets
    from ingot.core.model_dir import ModelDir
    from ingot.core.options import Options

    base = tiny.write_model(tmp_path / "base")
    model, settings = load(base), LoRA(2, 4.0, 0.0, Targets(("q_proj",)))
    put_on(model.decoder, settings, "a", model.active)
    with ModelDir.create(tmp_path / "adapter", "test", Options()) as draft:
        write_adapter(draft, model.decoder, "a", settings, model.model_dir)
        draft.prove("nothing", "a test", 0.0)
    numbers = ingot.plan_params(f"{base}+{tmp_path / 'adapter'}").numbers
    assert numbers["adapter_parameters"] == 2 * (2 * 32 + 32 * 2)
    assert numbers["parameters"] == counted(tiny.LLAMA).total


@pytest.mark.parametrize(
    ("options", "code"),
    [({}, "plan-name-one"), ({"preset": "gpt2", "config": Path("x")}, "plan-name-one"),
     ({"preset": "gpt-2"}, "unknown-preset"), ({"config": Path("none.json")}, "no-such-file"),
     ({"model": "none"}, "no-such-directory")],
)  # fmt: skip
def test_what_cannot_be_planned_is_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(IngotError) as caught:
        ingot.plan_params(**options)
    assert caught.value.code == code
