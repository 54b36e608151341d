"""The verb merge: adapters against peft, models against the parents, and every mismatch by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compressing import MakeModel, rewrite, state, write_lora

from ingot.adapt.load import load
from ingot.compress.merge import linear, slerp
from ingot.compress.merge_verb import merge
from ingot.compress.quantize_verb import quantize
from ingot.core.errors import IngotError
from tiny import BERT, GPT2, LLAMA, QWEN3, T5, write_model

pytestmark = pytest.mark.slow

IDS = [[3, 1, 4, 1, 5, 9, 2, 6]]
SMALL: dict[str, Any] = {"tokens": 64}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_each_tensor_is_merged_by_the_method(make_model: MakeModel, tmp_path: Path) -> None:
    a, b = make_model("a", seed=1), make_model("b", seed=2)
    merge(str(a), str(b), method="slerp", t=0.3, out=tmp_path / "s", **SMALL)
    merge(str(a), str(b), weights="0.3,0.7", out=tmp_path / "l", **SMALL)
    for name, tensor in state(a).items():
        pair = [tensor, state(b)[name]]
        assert torch.equal(state(tmp_path / "s")[name], slerp(pair, t=0.3))
        assert torch.equal(state(tmp_path / "l")[name], linear(pair, weights=[0.3, 0.7]))


@pytest.mark.parametrize(("t", "parent"), [(0, "a"), (1, "b")])
def test_the_ends_of_slerp_are_the_parents(make_model: MakeModel, tmp_path: Path, t: float, parent: str) -> None:
    parents = {name: make_model(name, seed=ord(name)) for name in "ab"}
    numbers = merge(str(parents["a"]), str(parents["b"]), method="slerp", t=t, out=tmp_path / "m", **SMALL).summary()
    assert same(state(tmp_path / "m"), state(parents[parent]))
    assert [entry["kl"] == pytest.approx(0, abs=1e-6) for entry in numbers["parents"]] == [t == 0, t == 1]


def test_a_model_merged_with_itself_is_itself(make_model: MakeModel, tmp_path: Path) -> None:
    a = make_model("a")
    merge([str(a), str(a), str(a)], weights=[0.2, 0.3, 0.1], out=tmp_path / "m", **SMALL)
    assert same(state(tmp_path / "m"), state(a))
    assert json.loads((tmp_path / "m" / "config.json").read_text()) == json.loads((a / "config.json").read_text())
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "m" / name).read_bytes() == (a / name).read_bytes()


def test_the_report_compares_with_each_parent(make_model: MakeModel, tmp_path: Path, text_file: Path) -> None:
    a, b = make_model("a", seed=1), make_model("b", seed=2)
    numbers = merge(str(a), str(b), out=tmp_path / "m", data=text_file).summary()
    assert [parent["name"] for parent in numbers["parents"]] == ["a", "b"]
    for parent in numbers["parents"]:
        assert parent["kl"] > 0.01
        assert parent["bits_per_byte"] == pytest.approx(numbers["bits_per_byte"])
        assert parent["bits_per_byte_before"] != parent["bits_per_byte"]
    hallmark = json.loads((tmp_path / "m" / "hallmark.json").read_text())["step"]
    assert [parent["name"] for parent in hallmark["parents"]] == ["a", "b"]
    assert hallmark["proof"][0]["difference"] == 0


@pytest.mark.parametrize(
    ("config", "targets"),
    [(LLAMA, ("q_proj", "down_proj")), (QWEN3, ("k_proj",)), (GPT2, ("c_attn", "c_proj"))],
    ids=["llama", "qwen3", "gpt2"],
)
def test_an_adapter_goes_into_the_weights(
    make_model: MakeModel, tmp_path: Path, config: dict[str, Any], targets: tuple[str, ...]
) -> None:
    base = make_model("base", config)
    adapter = write_lora(tmp_path / "lora", base, targets)
    numbers = merge(f"{base}+{adapter}", out=tmp_path / "m", **SMALL).summary()
    wrapped = load(f"{base}+{adapter}").logits(IDS)
    assert torch.allclose(load(tmp_path / "m").logits(IDS), wrapped, atol=1e-4)
    assert not torch.allclose(load(base).logits(IDS), wrapped, atol=0.1)
    assert numbers["top1_agreement"] == 1
    assert numbers["logit_difference"] < 1e-5
    changed = {name for name, tensor in state(base).items() if not torch.equal(tensor, state(tmp_path / "m")[name])}
    assert {name.split(".")[-2] for name in changed} == set(targets)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "targets"), [(LLAMA, ("q_proj", "down_proj")), (GPT2, ("c_attn",))], ids=["llama", "gpt2"]
)
def test_the_merged_weights_are_those_of_peft(
    make_model: MakeModel, tmp_path: Path, config: dict[str, Any], targets: tuple[str, ...]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = make_model("base", config)
    adapter = write_lora(tmp_path / "lora", base, targets)
    merge(f"{base}+{adapter}", out=tmp_path / "m", **SMALL)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    for name, tensor in state(tmp_path / "m").items():
        assert torch.allclose(theirs.state_dict()[name], tensor, atol=1e-6), name


def test_an_adapter_on_a_parent_is_merged_on_the_way(make_model: MakeModel, tmp_path: Path) -> None:
    base, other = make_model("base"), make_model("other", seed=3)
    reference = f"{base}+{write_lora(tmp_path / 'lora', base)}"
    merge(reference, out=tmp_path / "merged", **SMALL)
    merge(str(tmp_path / "merged"), str(other), out=tmp_path / "one", **SMALL)
    merge(reference, str(other), out=tmp_path / "two", **SMALL)
    assert same(state(tmp_path / "one"), state(tmp_path / "two"))


def test_sixteen_bits_stay_sixteen_bits(make_model: MakeModel, tmp_path: Path) -> None:
    a, b = make_model("a", seed=1), make_model("b", seed=2)
    for path in (a, b):
        rewrite(path, **{name.replace(".", "__"): tensor.half() for name, tensor in state(path).items()})
    merge(str(a), str(b), out=tmp_path / "m", **SMALL)
    assert {tensor.dtype for tensor in state(tmp_path / "m").values()} == {torch.float16}


def refused(code: str, words: str, out: Path, *models: str, **options: Any) -> None:
    with pytest.raises(IngotError, match=words) as error:
        merge(*models, out=out, **options)
    assert error.value.code == code
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rms_norm_eps": 1e-6}, "norm_eps is 1e-06, expected 1e-05"),
        ({"intermediate_size": 48}, "intermediate_size is 48, expected 64"),
        ({"rope_theta": 500000.0}, "ropes.theta is 500000"),
    ],
)
def test_another_architecture_is_refused_by_field(
    make_model: MakeModel, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    a, b = make_model("a"), make_model("b", **changes)
    refused("merge-config", words, tmp_path / "m", str(a), str(b))


def test_another_tokenizer_is_refused_and_another_template_told(
    make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = make_model("a"), make_model("b")
    (b / "chat_template.jinja").write_text("{{ messages[0].content }}")
    merge(str(a), str(b), out=tmp_path / "m", **SMALL)
    assert "another chat template" in caplog.text
    tokenizer = json.loads((b / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (b / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused("merge-tokenizer", "same id would mean different text", tmp_path / "n", str(a), str(b))
    (b / "tokenizer.json").unlink()
    refused("merge-tokenizer", "digest -", tmp_path / "n", str(a), str(b))


def test_differing_tensors_are_refused_by_name(make_model: MakeModel, tmp_path: Path) -> None:
    a, b, c = (make_model(name) for name in "abc")
    name = "model.layers.0.self_attn.q_proj.weight"
    rewrite(b, **{name.replace(".", "__"): state(b)[name].half()})
    refused("merge-tensor", rf"{name}.*float16.*float32", tmp_path / "m", str(a), str(b))
    rewrite(c, **{name.replace(".", "__"): None})
    refused("merge-tensor-missing", name, tmp_path / "m", str(a), str(c))


def test_nan_in_a_parent_is_refused_by_tensor(make_model: MakeModel, tmp_path: Path) -> None:
    a, b = make_model("a"), make_model("b")
    rewrite(b, model__norm__weight=torch.full((32,), float("inf")))
    refused("not-finite", r"b: tensor 'model\.norm\.weight' has 32", tmp_path / "m", str(a), str(b))


def test_a_quantised_parent_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    a = make_model("a")
    quantize(str(a), out=tmp_path / "q", **SMALL)
    refused("already-quantized", "q is already quantised", tmp_path / "m", str(a), str(tmp_path / "q"))


def test_options_that_would_do_nothing_are_refused(make_model: MakeModel, tmp_path: Path) -> None:
    a = str(make_model("a"))
    lora = str(write_lora(tmp_path / "lora", Path(a)))
    out = tmp_path / "m"
    refused("merge-parameter", "--t does nothing in linear", out, a, a, t=0.3)
    refused("merge-parameter", "--weights does nothing in slerp", out, a, a, method="slerp", weights=[1, 2])
    refused("merge-one-method", "slerp is for merging several", out, f"{a}+{lora}", method="slerp")
    refused("merge-one-method", "t is for merging several", out, f"{a}+{lora}", t=0.0)
    refused("merge-one-model", "one model without an adapter", out, a)
    refused("unknown-merge", "did you mean slerp", out, a, a, method="slrp")
    refused("slerp-needs-two", "3 were given", out, a, a, a, method="slerp")
    refused("merge-weights-count", "1 numbers for 2", out, a, a, weights=[1])
    refused("merge-weights-sum", "sum", out, a, a, weights="1,-1")
    refused("bad-option", "expected numbers", out, a, a, weights="a,b")
    refused("bad-option", "'t' was 1.5", out, a, a, method="slerp", t=1.5)


def test_a_merge_that_wrote_something_else_is_not_kept(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ingot.compress.merge_verb as module

    honest = module.write_tensors
    monkeypatch.setattr(
        module,
        "write_tensors",
        lambda path, spec, tensors: honest(path, spec, ((name, tensor + 1e-3) for name, tensor in tensors)),
    )
    refused("not-proven", "recomputed", tmp_path / "m", str(make_model("a")), str(make_model("b", seed=2)))


@pytest.mark.parametrize("config", [T5, BERT])
def test_what_is_not_a_decoder_is_refused_by_name(config: dict[str, Any], tmp_path: Path) -> None:
    path = str(write_model(tmp_path / "m", config))
    for verb, models in ((merge, (path, path)), (quantize, (path,))):
        with pytest.raises(IngotError, match=config["model_type"]) as error:
            verb(*models, out=tmp_path / "out")
        assert error.value.code in {"not-a-decoder", "does-not-write"}
