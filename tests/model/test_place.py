"""Models larger than one place: what the user may say, what is planned, and that layers on disk compute the same."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ingot
from cases import first_fast
from ingot.adapt.load import LanguageModel, load
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.infer.engine import Engine, generate
from ingot.infer.memory import Memory
from ingot.infer.sampling import Sampling
from ingot.infer.speculation.options import Speculation
from ingot.model.cache import HeldRows, KVCache
from ingot.model.place import choose, disk, wish
from ingot.model.place import sizes as sizes_module
from ingot.model.place.layout import Layout
from ingot.model.place.plan import Placement, Sizes, Speeds, decide, seconds_per_token
from ingot.model.place.sizes import sizes_of
from ingot.model.place.spread import Carrier
from ingot.model.place.wish import Wish, parse_place
from ingot.model.weights import spec_of, write_tensors
from tiny import BERT, CONFIGS, LLAMA, T5, make_decoder, write_model, write_tokenizer

IDS = [[5, 9, 200, 31, 7, 8, 100], [1, 2, 3, 4, 300, 6, 77]]
LAYERS = 5


def deep(family: str) -> dict[str, Any]:
    """A tiny model of five layers."""
    config = CONFIGS[family]
    more = {"num_hidden_layers": LAYERS} if "num_hidden_layers" in config else {"n_layer": LAYERS}
    kinds = {"layer_types": ["sliding_attention", "full_attention"] * 2 + ["full_attention"]}
    return config | more | (kinds if "layer_types" in config else {})


def with_room(monkeypatch: pytest.MonkeyPatch, path: Path, layers: float = 0.0) -> LanguageModel:
    """Load with as much memory as is least needed, and so many layers more."""
    base = ModelDir.open(path)
    plain = load(path)
    monkeypatch.setattr(sizes_module, "PIECE", 1024)  # or tiny models would always fit
    monkeypatch.setattr(sizes_module, "DECODING", 1)
    sizes = sizes_of(base, plain.config, torch.float32, choose.cached_tokens(plain.config), Layout.of(base))
    monkeypatch.setattr(choose, "_free", lambda wish: {"cpu": sizes.least + layers * max(sizes.layers)})
    return load(path, "auto")


# ---- what the user says


def test_what_may_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_place("cpu") == Wish(whole="cpu")
    assert parse_place("auto") == Wish()
    assert parse_place("cpu=512MB") == Wish(limits={"cpu": 512_000_000})
    real = torch.empty
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(wish.torch, "empty", lambda *size, device: real(*size))
    assert parse_place("cuda") == Wish(whole="cuda:0")
    assert parse_place("cuda:1") == Wish(whole="cuda:1")
    assert parse_place("cuda:1=8GiB, cpu=4GiB") == Wish(limits={"cuda:1": 8 * 2**30, "cpu": 4 * 2**30})


@pytest.mark.parametrize(
    ("place", "code", "named"),
    [("nowhere", "bad-place", "nowhere"), ("cpu=lots", "bad-place", "cpu=lots"), ("disk=1GB", "bad-place", "disk"),
     ("cpu=1GB,cpu=2GB", "bad-place", "cpu=2GB"), ("meta=1GB", "bad-place", "meta=1GB"), ("", "bad-place", "''"),
     ("cuda:7", "place-no-card", "cuda:7"), ("cuda=1GB,cpu=1GB", "place-no-card", "cuda")],
)  # fmt: skip
def test_a_wrong_place_is_named(place: str, code: str, named: str) -> None:
    with pytest.raises(IngotError, match=named) as caught:
        parse_place(place)
    assert caught.value.code == code


# ---- what is planned

SIZES = Sizes(home=10, layers=(20,) * 6, stored=(10,) * 6, kv=1, work=5, loading=0, reading=3, head=8)
"""By hand: everything on one device is 10 + 120 + 6 + 5 = 141."""


def test_all_on_the_first_device_that_holds_it() -> None:
    assert decide({"cuda:0": 141, "cpu": 1000}, SIZES) == Placement("cuda:0", ("cuda:0",) * 6, {"cuda:0": 141}, 6)
    assert not decide({"cuda:0": 141, "cpu": 1000}, SIZES).is_spread
    assert decide({"cpu": 141}, SIZES) == Placement("cpu", ("cpu",) * 6, {"cpu": 141}, 6)


def test_cards_then_memory_then_disk() -> None:
    found = decide({"cuda:0": 60, "cuda:1": 30, "cpu": 110}, SIZES)
    # card 0: 10 + 5 + 2 layers of 21; card 1: 5 + 21; memory: 5 + 3 layers of 21
    assert found.layers == ("cuda:0", "cuda:0", "cuda:1", "cpu", "cpu", "cpu")
    assert found.taken == {"cuda:0": 57, "cuda:1": 26, "cpu": 68}
    tight = decide({"cuda:0": 60, "cpu": 75}, SIZES)
    # memory: 5 + two buffers of 20 + a piece of 3 + caches of 4 layers = 52, and one layer of 20
    assert tight.layers == ("cuda:0", "cuda:0", "cpu", "disk", "disk", "disk")
    assert tight.taken == {"cuda:0": 57, "cpu": 72}
    assert [str(tight.device(layer)) for layer in range(6)] == ["cuda:0"] * 2 + ["cpu"] * 4
    assert tight.on_disk == [3, 4, 5]


def test_home_is_where_the_embedding_fits() -> None:
    found = decide({"cuda:0": 14, "cuda:1": 30, "cpu": 1000}, SIZES)
    assert (found.home, found.layers[:2]) == ("cuda:1", ("cpu", "cpu"))
    assert "cuda:0" not in found.taken


def test_reading_the_largest_tensor_counts() -> None:
    heavy = replace(SIZES, loading=90)
    assert heavy.total == 10 + 120 + 90
    assert decide({"cpu": 219}, heavy).on_disk


def test_what_cannot_fit_is_refused_with_the_plan() -> None:
    least = 10 + 5 + 2 * 20 + 3 + 6
    assert SIZES.least == least
    assert decide({"cpu": least}, SIZES).layers == ("disk",) * 6
    with pytest.raises(IngotError, match="64 B") as caught:
        decide({"cpu": least - 1}, SIZES)
    assert caught.value.code == "place-too-large"
    with pytest.raises(IngotError, match="cuda:0 100 B"):
        decide({"cuda:0": 100}, SIZES)  # nobody computes what would be on disk


def test_every_plan_keeps_to_what_is_free() -> None:
    for card in range(0, 160, 7):
        for memory in range(64, 200, 3):
            free = {"cuda:0": card, "cpu": memory}
            found = decide(free, SIZES)
            order = {"cuda:0": 0, "cpu": 1, "disk": 2}
            assert len(found.layers) == 6
            assert [order[place] for place in found.layers] == sorted(order[place] for place in found.layers)
            assert all(taken <= free[device] for device, taken in found.taken.items())


def test_the_prediction() -> None:
    placement = Placement("cuda:0", ("cuda:0", "cuda:0", "cpu", "disk", "disk", "disk"), {"cuda:0": 57, "cpu": 72}, 6)
    speeds = Speeds({"cuda:0": 100.0, "cpu": 10.0}, disk=2.0)
    # card: head and two layers; memory computes four layers in 8 s while disk takes 15 s
    assert seconds_per_token(placement, SIZES, speeds) == pytest.approx(0.08 + 0.4 + 15.0)
    assert seconds_per_token(placement, SIZES, Speeds(speeds.devices, 5.0)) == pytest.approx(0.48 + 8.0)


def test_a_whole_model_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m")
    monkeypatch.setattr(choose, "free_bytes", lambda device: 100_000.0)
    with pytest.raises(IngotError, match="place auto") as caught:
        load(path)
    assert caught.value.code == "place-too-large"
    monkeypatch.setattr(choose, "free_bytes", lambda device: None)
    load(path)
    with pytest.raises(IngotError) as caught:
        load(path, "auto")
    assert caught.value.code == "place-unknown"


def test_limits_are_for_the_process_and_no_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "resident_bytes", lambda: 300.0)
    monkeypatch.setattr(choose, "free_bytes", lambda device: 1000.0)
    assert choose._free(Wish(limits={"cpu": 1000})) == {"cpu": 700.0}
    assert choose._free(Wish(limits={"cpu": 5000})) == {"cpu": 900.0}
    assert choose._free(Wish()) == {"cpu": 900.0}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose._free(Wish(limits={"cpu": 1000, "cuda:1": 50})) == {"cuda:1": 50.0, "cpu": 700.0}
    assert list(choose._free(Wish())) == ["cuda:0", "cuda:1", "cpu"]


# ---- how it runs


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("layers", [0.0, 1.2])
def test_layers_on_disk_compute_the_same(
    family: str, layers: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "m", deep(family))
    found = with_room(monkeypatch, path, layers)
    assert found.placement is not None
    assert len(found.placement.on_disk) == (LAYERS if layers == 0 else LAYERS - 1)
    wanted = load(path).logits(IDS)
    for _ in range(3):  # an odd number of layers: each comes to lie in either buffer
        assert torch.equal(found.logits(IDS), wanted)
    on_disk = [p for block in found.placement.on_disk for p in found.decoder.blocks[block].parameters()]
    assert all(parameter.is_meta for parameter in on_disk)


def test_weights_stored_in_another_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m", deep("llama"), hidden_size=96, intermediate_size=700)
    state = {name: tensor.to(torch.bfloat16) for name, tensor in load(path).network.state_dict().items()}
    write_tensors(path / "model.safetensors", spec_of(state), state.items())
    monkeypatch.setattr(disk, "PIECE", 4096)
    monkeypatch.setattr(disk, "ALONE", 700)  # neither divides a tensor
    found = with_room(monkeypatch, path)
    assert torch.equal(found.logits(IDS), load(path).logits(IDS))


@first_fast("bits", [8, 4])
def test_quantised_directories_are_decoded_a_layer_at_a_time(
    bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "m", deep("llama"), tokenizer=write_tokenizer(tmp_path / "t"))
    ingot.quantize(str(path), out=tmp_path / "q", bits=bits)
    found = with_room(monkeypatch, tmp_path / "q")
    assert found.placement is not None
    assert found.placement.on_disk == list(range(LAYERS))
    assert torch.equal(found.logits(IDS), load(tmp_path / "q").logits(IDS))


def test_a_layer_is_read_while_another_computes_and_memory_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "m", deep("llama"))
    layout = Layout.of(ModelDir.open(path))
    layers = disk.DiskLayers({number: layout.weights(number, torch.float32) for number in (1, 3, 4)})
    read: list[str] = []
    real = disk.read_into
    monkeypatch.setattr(disk, "read_into", lambda weight, target: (read.append(weight.name), real(weight, target)))
    buffers = {turn.buffer.data_ptr() for turn in layers._turns}
    for number in (1, 3, 4, 1, 3, 4, 1):
        tensors = layers.take(number)
        assert tensors[0].data_ptr() in buffers
        for tensor, weight in zip(tensors, layout.weights(number, torch.float32), strict=True):
            assert torch.equal(tensor, load(path).network.state_dict()[weight.name])
    for turn in layers._turns:
        assert turn.tensors is not None
        turn.tensors.result()
    numbers = [int(name.split(".")[2]) for name in read if name.endswith("q_proj.weight")]
    assert numbers == [1, 3, 4, 1, 3, 4, 1, 3]  # the next one is always on its way


def test_two_layers_on_disk_stay_in_the_two_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.of(ModelDir.open(write_model(tmp_path / "m", deep("llama"))))
    layers = disk.DiskLayers({number: layout.weights(number, torch.float32) for number in (0, 1)})
    read: list[str] = []
    real = disk.read_into
    monkeypatch.setattr(disk, "read_into", lambda weight, target: (read.append(weight.name), real(weight, target)))
    for number in (0, 1) * 3:
        layers.take(number)
    assert len(read) == len(set(read))


def spoil(path: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
    state = dict(load(path).network.state_dict())
    found = change(state.pop(name).clone())
    state |= {} if found is None else {name: found}
    write_tensors(path / "model.safetensors", spec_of(state), state.items())


def infinite(tensor: torch.Tensor) -> torch.Tensor:
    tensor[3, 3] = torch.nan
    return tensor


Q = "model.layers.4.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "code"),
    [(lambda t: None, "missing-tensor"), (lambda t: t[1:].clone(), "wrong-shape"), (infinite, "not-finite")],
)
def test_bad_tensors_on_disk_are_named(
    change: Callable[[torch.Tensor], torch.Tensor | None], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "m", deep("llama"))
    with_room(monkeypatch, path)
    spoil(path, Q, change)
    for _ in range(2):  # and it is refused again when it is asked again
        with pytest.raises(IngotError, match=Q) as caught:
            load(path, "auto").logits(IDS)
        assert caught.value.code == code


def test_a_file_that_shrinks_while_it_is_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m", deep("llama"))
    model = with_room(monkeypatch, path)
    model.logits(IDS)
    with (path / "model.safetensors").open("r+b") as file:
        file.truncate(200_000)
    with pytest.raises(IngotError) as caught:
        model.logits(IDS)
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("config", [BERT | {"num_hidden_layers": 6}, T5])
def test_only_decoders_are_spread(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m", config)
    monkeypatch.setattr(sizes_module, "PIECE", 1024)
    read = load(path).config
    sizes = sizes_of(ModelDir.open(path), read, torch.float32, choose.cached_tokens(read), None)
    monkeypatch.setattr(choose, "_free", lambda wish: {"cpu": sizes.total})
    found = load(path, "auto")
    assert found.placement is not None
    assert not found.placement.is_spread
    monkeypatch.setattr(choose, "_free", lambda wish: {"cpu": sizes.least})
    with pytest.raises(IngotError) as caught:
        load(path, "auto")
    assert caught.value.code == "not-a-decoder"


def test_the_plan_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    path = write_model(tmp_path / "m", deep("llama"), tokenizer=write_tokenizer(tmp_path / "t"))
    with_room(monkeypatch, path, layers=1.2)
    with caplog.at_level(logging.INFO, logger="ingot"):
        ingot.generate(str(path), prompt="the", max_tokens=3, place="auto")
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "cpu: embedding and head, layer 0;" in told
    assert "disk: layers 1-4;" in told
    assert "tokens/s" in told
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="ingot"):
        ingot.generate(str(path), prompt="the", max_tokens=3)
    assert "tokens/s for" not in "\n".join(record.getMessage() for record in caplog.records)


def test_inputs_are_brought_to_a_layer_once_a_pass() -> None:
    carrier, meta = Carrier(), torch.device("meta")
    x = torch.ones(2, 3)
    config = make_decoder(LLAMA).config
    cache = KVCache(config, 8, torch.device("cpu"), torch.float32)
    rows = HeldRows.at(cache, torch.arange(8).view(2, 4), torch.arange(3).expand(2, 3))
    moved = [carrier.bring(value, meta) for value in (x, (x, x), None, rows)]
    assert moved[0].is_meta
    assert moved[1][0] is moved[1][1] is moved[0]
    assert moved[2] is None
    assert moved[3].places.is_meta
    assert moved[3].new_BT.is_meta
    assert moved[3].positions_BT.is_meta
    assert moved[3].cache is rows.cache
    assert carrier.bring(x, torch.device("cpu")) is x
    carrier.forget()
    assert carrier.bring(x, meta) is not moved[0]


def test_the_engine_writes_the_same_and_keeps_to_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m", deep("llama"))
    model = with_room(monkeypatch, path, layers=1.2)
    assert model.placement is not None
    greedy, asked = Sampling(temperature=0, max_tokens=9, ignore_eos=True), [row[:n] for row in IDS for n in (1, 4, 7)]
    wanted = [each.tokens for each in generate(load(path), asked, greedy)]
    assert [each.tokens for each in generate(model, asked, greedy)] == wanted
    first_layers = Speculation(kind="self", layers=3, always=True)
    assert [each.tokens for each in generate(model, asked, greedy, speculation=first_layers)] == wanted
    assert Engine(model, 8).runner.cache.nbytes <= model.placement.cache
    with pytest.raises(IngotError, match=r"--cache.gib 1.0") as caught:
        Engine(model, memory=Memory(gib=1.0))
    assert caught.value.code == "place-cache"


def test_what_works_with_plain_weights_only_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m", deep("llama"))
    with_room(monkeypatch, path)
    for place in ("auto", "2xcpu"):
        with pytest.raises(IngotError, match="nf4") as caught:
            load(path, place, nf4=True)
        assert caught.value.code == "place-plain"


def test_what_is_left_of_a_device_is_for_the_caches_of_its_layers() -> None:
    assert decide({"cpu": 141 + 60}, SIZES).cache == 6 * (1 + 10)
    spread = decide({"cuda:0": 61, "cpu": 110}, SIZES)  # card: 57 taken, 2 layers; memory: 4 layers, 89 taken
    assert spread.taken == {"cuda:0": 57, "cpu": 89}
    assert spread.cache == 6 * (1 + min(4 // 2, 21 // 4))


LARGE = """
import json, sys
from ingot.adapt.load import load
from ingot.infer.engine import generate
from ingot.infer.sampling import Sampling
from ingot.model.available import resident_bytes
from ingot.train.memory.resident import peak_bytes
budget = int(resident_bytes() + 240e6)
model = load(sys.argv[1], f"cpu={budget}" if sys.argv[2] == "little" else "cpu")
found = generate(model, [list(range(5, 40)), [7, 8, 9]], Sampling(temperature=0, max_tokens=4, ignore_eos=True))
layers = model.placement.on_disk if model.placement else []
print(json.dumps([[one.tokens for one in found], len(layers), peak_bytes() / budget]))
"""


@pytest.mark.slow
def test_a_model_larger_than_its_budget_runs_within_it(tmp_path: Path) -> None:
    """520 MB of layers in float32, within 240 MB, some 80 of which torch takes to begin."""
    path = write_model(tmp_path / "m", LLAMA, hidden_size=640, intermediate_size=2560, num_attention_heads=10,
                       num_key_value_heads=10, head_dim=64, num_hidden_layers=20)  # fmt: skip
    found = {}
    for memory in ("plenty", "little"):
        words = [sys.executable, "-c", LARGE, str(path), memory]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=True)
        found[memory] = json.loads(done.stdout.splitlines()[-1])
    tokens, layers, peak = found["little"]
    assert tokens == found["plenty"][0]
    assert layers > 10
    assert peak <= 1.0
    assert found["plenty"][2] > 1.2
