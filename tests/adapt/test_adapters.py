"""What every method must keep: only its numbers move, the written is the trained, merged equals wrapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapting import chats, put, settings, tuned, write
from peft_pairs import IDS

import ingot
from cases import first_fast
from ingot.adapt.active import Active
from ingot.adapt.files import room_in_front
from ingot.adapt.load import load
from ingot.adapt.lora import LoRA
from ingot.adapt.methods import begin, merge, put_on, tensor_names
from ingot.adapt.targets import Targets
from ingot.adapt.wrapped import Wrapped, wrapped
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.core.report import Maps
from ingot.infer.inspection.capture import SELF, look
from ingot.infer.inspection.page import heads
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.network import Network
from tiny import (
    BERT,
    CONFIGS,
    GPT2,
    LLAMA,
    MISTRAL,
    MIXTRAL,
    PHI3,
    QWEN2,
    QWEN3,
    T5,
    make_decoder,
    make_random_network,
    write_model,
    write_tokenizer,
)

METHODS = ["lora", "rslora", "dora", "ia3", "prefix", "prompt"]
MERGED = METHODS[:4]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", LLAMA, tokenizer=write_tokenizer(tmp_path / "tok"))


def logits(network: Network) -> torch.Tensor:
    source = {"source_ids_BS": IDS} if isinstance(network, EncoderDecoder) else {}
    with torch.no_grad():
        return network.head(network(IDS, **source))


@first_fast("method", METHODS)
def test_tuning_moves_only_the_adapter(method: str, base: Path, tmp_path: Path) -> None:
    before = ModelDir.open(base).digest
    adapter = tuned(base, tmp_path / "a", method=method)
    assert ModelDir.open(base).digest == before
    assert adapter.kind == "adapter"
    numbers = adapter.hallmark.step.numbers  # type: ignore[union-attr]
    sizes = [torch.Size(entry.shape).numel() for entry in adapter.tensors.values()]
    assert numbers["trained_parameters"] == sum(sizes)
    difference = (load(f"{base}+{tmp_path / 'a'}").logits(IDS) - load(base).logits(IDS)).abs().max()
    assert difference > 1e-3
    with open(tmp_path / "a" / "adapter_config.json") as stream:
        assert json.load(stream)["base_model_name_or_path"] == str(base)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_the_adapter_alone(method: str) -> None:
    network = make_decoder(QWEN2)
    active = Active()
    put_on(network, settings(method, network.config), "made", active)
    begin(network, "made", [5, 6, 7])
    own = set(tensor_names(network, "made").values())
    assert {name for name, parameter in network.named_parameters() if parameter.requires_grad} == own
    network.head(network(IDS)).logsumexp(-1).sum().backward()
    assert {name for name, parameter in network.named_parameters() if parameter.grad is not None} == own


@pytest.mark.parametrize("name", [*CONFIGS, "bert", "t5"])
@pytest.mark.parametrize("method", MERGED)
def test_merged_equals_wrapped(method: str, name: str) -> None:
    network = make_random_network(({"bert": BERT, "t5": T5} | CONFIGS)[name])
    plain = logits(network)
    chosen, _ = put(network, method)
    found = logits(network)
    assert (found - plain).abs().max() > 1e-2
    merge(network, [chosen])
    assert not list(wrapped(network))
    scale = found.abs().max()
    assert (logits(network) - found).abs().max() <= 1e-4 * scale
    merge(network, [])  # once more changes nothing
    assert (logits(network) - found).abs().max() <= 1e-4 * scale


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_what_lies_in_front_cannot_be_merged(method: str, base: Path, tmp_path: Path) -> None:
    write(tmp_path / "a", base, method)
    for act in (ingot.merge, ingot.quantize):
        with pytest.raises(IngotError) as caught:
            act(f"{base}+{tmp_path / 'a'}", out=tmp_path / "m")
        assert caught.value.code == "adapter-cannot-merge"
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("config", [LLAMA, QWEN3, GPT2, PHI3, MISTRAL, CONFIGS["bloom"], CONFIGS["gemma3"]])
@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_what_begins_from_a_text_is_that_text(method: str, config: dict[str, Any]) -> None:
    network = make_decoder(config)
    text = [7, 30, 99, 12, 5, 61]
    whole = torch.cat((torch.tensor([text, text]), IDS), 1)
    with torch.no_grad():
        expected = network.head(network(whole))[:, len(text) :]
        put_on(network, settings(method, network.config), "made", Active())
        begin(network, "made", text)
        found = network.head(network(IDS))
    assert (found - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_packed_texts_each_see_the_front(method: str) -> None:
    network = make_decoder(MISTRAL)
    put(network, method)
    lengths = [7, 13]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    segments = torch.tensor([[0] * lengths[0] + [1] * lengths[1]])
    with torch.no_grad():
        packed = network(IDS[:1], positions, segments)
        alone = torch.cat([network(part) for part in IDS[:1].split(lengths, 1)], 1)
    assert (packed - alone).abs().max() <= 1e-5


@pytest.mark.parametrize("config", [BERT, T5])
def test_packed_texts_of_encoders_each_see_the_prompt(config: dict[str, Any]) -> None:
    network = make_random_network(config)
    put(network, "prompt")
    lengths = [7, 9]
    segments = torch.tensor([[0] * 7 + [1] * 9 + [-1] * 4])
    source = {"source_ids_BS": IDS[:1], "source_segments_BS": segments} if config is T5 else {}
    positions = torch.cat([*(torch.arange(length) for length in lengths), torch.arange(4)])[None]
    with torch.no_grad():
        packed = network(IDS[:1], positions, segments, **source)[:, :16]
        alone = []
        for part in IDS[:1, :16].split(lengths, 1):
            alone.append(network(part, **({"source_ids_BS": part} if config is T5 else {})))
    assert (packed - torch.cat(alone, 1)).abs().max() <= 1e-5


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_cached_equals_whole_behind_a_front(method: str) -> None:
    from ingot.model.cache import HeldRows, KVCache

    network = make_decoder(MISTRAL)
    put(network, method)
    cache = KVCache(network.config, 64, torch.device("cpu"), torch.float32)
    places = torch.arange(64).view(2, 32)
    with torch.no_grad():
        whole = network(IDS)
        parts = []
        front = network.keep_front(cache, places)
        assert front.tolist() == [6, 6]
        for begin_at, end in ((0, 9), (9, 10), (10, 20)):
            positions = torch.arange(begin_at, end) + front[:, None]
            parts.append(network(IDS[:, begin_at:end], positions, rows=HeldRows.at(cache, places, positions)))
    assert (torch.cat(parts, 1) - whole).abs().max() <= 1e-5


def test_a_front_takes_its_part_of_the_window(base: Path, tmp_path: Path) -> None:
    write(tmp_path / "a", base, "prefix")
    assert load(base).max_length == 128
    assert load(f"{base}+{tmp_path / 'a'}").max_length == 122
    assert room_in_front([ModelDir.open(tmp_path / "a")]) == 6
    assert room_in_front([]) == 0


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_looking_inside_shows_what_stands_in_front(method: str, base: Path, tmp_path: Path) -> None:
    """Maps have its columns, and a head's numbers are those of the text's own tokens."""
    write(tmp_path / "a", base, method)
    model = load(f"{base}+{tmp_path / 'a'}")
    seen = look(model.network, IDS[0].tolist())
    weights_HTS = seen.attention[SELF][1]
    length = IDS.shape[1]
    assert weights_HTS.shape[1:] == (length, length + 6)
    assert torch.allclose(weights_HTS.sum(-1), torch.ones(()), atol=1e-5)
    head = next(one for one in heads(seen) if (one.layer, one.head) == (1, 2))
    own = [float(weights_HTS[2, at, at + 6]) for at in range(length)]
    before = [float(weights_HTS[2, at, at + 5]) for at in range(1, length)]
    first = [float(weights_HTS[2, at, 6]) for at in range(1, length)]
    found = (head.own, head.before, head.first)
    assert found == pytest.approx(tuple(sum(each) / len(each) for each in (own, before, first)))
    report = ingot.inspect(f"{base}+{tmp_path / 'a'}", prompt="the cat", out=tmp_path / "page")
    maps = next(section for section in report.sections if isinstance(section, Maps))
    assert maps.columns == [*(f"[{number}]" for number in range(1, 7)), *maps.rows]


def test_ranks_beyond_a_layers_width_are_read_and_not_trained(base: Path, tmp_path: Path) -> None:
    """Two adapters added up exactly hold the ranks of both."""
    for name, seed in (("a", 1), ("b", 2)):
        write(tmp_path / name, base, chosen=LoRA(20, 20.0, 0.0, Targets(("q_proj",))), seed=seed)
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    ingot.adapters_add(paths, out=tmp_path / "sum")
    both, one = (load(f"{base}+{path}") for path in ("+".join(paths), tmp_path / "sum"))
    assert (both.logits(IDS) - one.logits(IDS)).abs().max() <= 1e-5
    with pytest.raises(IngotError) as error:
        ingot.tune(str(base), data=chats(tmp_path / "chats.jsonl"), out=tmp_path / "t", rank=40)
    assert error.value.code == "rank-too-large"
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("method", METHODS)
def test_generation_with_an_adapter_is_greedy_step_by_step(method: str, base: Path, tmp_path: Path) -> None:
    from ingot.infer.engine import generate
    from ingot.infer.sampling import Sampling

    write(tmp_path / "a", base, method)
    model = load(f"{base}+{tmp_path / 'a'}")
    ids = [5, 6, 7]
    found = generate(model, [list(ids), [9]], [Sampling(temperature=0, max_tokens=8, ignore_eos=True)] * 2)
    for _ in range(8):
        ids.append(int(model.logits([ids])[0, -1].argmax()))
    assert found[0].tokens == ids[3:]


@pytest.mark.parametrize("method", ["lora", "ia3", "prompt"])
def test_an_encoder_decoder_writes_with_an_adapter(method: str, tmp_path: Path) -> None:
    """Sources of different lengths in one batch, more than there are slots: a prompt lies in front of each."""
    from ingot.infer.engine import generate
    from ingot.infer.sampling import Sampling

    ends = {"eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0}
    write(tmp_path / "a", write_model(tmp_path / "t5", T5 | ends), method)
    model, plain = load(f"{tmp_path / 't5'}+{tmp_path / 'a'}"), load(tmp_path / "t5")
    sources = [[5, 6, 7], [9], list(range(10, 40))]
    control = Sampling(temperature=0, max_tokens=6, ignore_eos=True)
    for source, sequence in zip(sources, generate(model, sources, control, num_slots=2), strict=True):
        ids = [0]
        for _ in range(6):
            ids.append(int(model.logits([ids], [source])[0, -1].argmax()))
        assert sequence.tokens == ids[1:]
    far = (model.logits([[0, 4]], [sources[2]]) - plain.logits([[0, 4]], [sources[2]])).abs().max()
    assert far > 1e-3


@pytest.mark.slow
def test_projection_is_trained_and_left_behind(base: Path, tmp_path: Path) -> None:
    adapter = tuned(base, tmp_path / "a", method="prefix", prompt={"projection": 8, "tokens": 4})
    assert list(adapter.tensors) == ["prompt_embeddings"]
    assert adapter.config["prefix_projection"] is True
    start = tuned(base, tmp_path / "b", method="prefix", prompt={"projection": 8, "tokens": 4}, max_steps=1, lr=1e-12)
    found, begun = (load(f"{base}+{part.path}").logits(IDS) for part in (adapter, start))
    assert (found - begun).abs().max() > 1e-3


@pytest.mark.slow
def test_the_users_text_is_what_a_prefix_begins_from(base: Path, tmp_path: Path) -> None:
    options = {"method": "prefix", "max_steps": 1, "lr": 1e-12}
    tuned(base, tmp_path / "a", prompt={"text": "the cat sat on the mat", "tokens": 4}, **options)
    model = load(base)
    ids = model.tokenizer.encode("the cat sat on the mat")[:4]
    expected = model.logits(torch.cat((torch.tensor([ids, ids]), IDS), 1))[:, 4:]
    assert (load(f"{base}+{tmp_path / 'a'}").logits(IDS) - expected).abs().max() <= 1e-4


def test_dora_begins_as_the_base() -> None:
    network = make_decoder(QWEN2)
    plain = logits(network)
    put_on(network, settings("dora", network.config), "made", Active())
    assert (logits(network) - plain).abs().max() <= 1e-5


def test_dropout_is_off_in_use_and_on_in_training() -> None:
    network = make_decoder(LLAMA)
    put_on(network, LoRA(4, 8.0, 0.5, Targets(("q_proj",))), "made", Active())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        assert torch.equal(network.eval()(IDS), network(IDS))
        assert not torch.equal(network.train()(IDS), network(IDS))


def test_a_low_bit_layer_is_wrapped_like_any_other() -> None:
    class Eight(torch.nn.Module):
        """A frozen layer that stores integers and gives its weight decoded."""

        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            self.in_features, self.out_features = layer.in_features, layer.out_features
            self.register_buffer("codes", (layer.weight.detach() * 64).round().to(torch.int8))
            self.bias = None

        @property
        def weight(self) -> torch.Tensor:
            return self.codes.float() / 64

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight.t()

    plain = make_decoder(LLAMA)
    attention = plain.blocks[0].self_attn
    attention.q_proj = Eight(attention.q_proj)
    dense = make_decoder(LLAMA)
    with torch.no_grad():
        dense.blocks[0].self_attn.q_proj.weight.copy_(attention.q_proj.weight)
    for method in MERGED:
        few, many = (make_decoder(LLAMA) for _ in range(2))
        few.blocks[0].self_attn.q_proj = attention.q_proj
        many.load_state_dict(dense.state_dict())
        put(few, method), put(many, method)
        assert any(isinstance(module, Wrapped) for module in few.blocks[0].self_attn.children())
        assert torch.allclose(logits(few), logits(many), atol=1e-5)


def test_experts_are_reached(tmp_path: Path) -> None:
    network = make_decoder(MIXTRAL)
    put_on(network, settings("lora", network.config), "made", Active())
    names = {name for name in tensor_names(network, "made") if ".experts.3.w2" in name}
    assert len(names) == 4  # two layers, A and B


@pytest.mark.slow
def test_a_model_with_an_adapter_is_tuned_further(base: Path, tmp_path: Path) -> None:
    tuned(base, tmp_path / "a")
    tuned(f"{base}+{tmp_path / 'a'}", tmp_path / "b", seed=3)
    both = f"{base}+{tmp_path / 'a'}+{tmp_path / 'b'}"
    assert not torch.equal(load(both).logits(IDS), load(f"{base}+{tmp_path / 'a'}").logits(IDS))
    with pytest.raises(IngotError) as caught:
        load(f"{base}+{tmp_path / 'b'}")
    assert caught.value.code == "adapter-below-missing"
    full = tuned(f"{base}+{tmp_path / 'a'}", tmp_path / "c", method="full", max_steps=1, lr=1e-12)
    assert full.kind == "model"
    assert torch.allclose(load(tmp_path / "c").logits(IDS), load(f"{base}+{tmp_path / 'a'}").logits(IDS), atol=1e-4)
