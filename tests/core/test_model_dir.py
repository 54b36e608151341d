"""ModelDir: opening with every cheap check, writing proven or not at all, the hallmark's chain."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ingot.core.errors import IngotError
from ingot.core.files import path_digest
from ingot.core.hallmark import Hallmark, Proof, Step, versions
from ingot.core.model_dir import ModelDir, read_header, split_reference
from ingot.core.options import Options, option


class NoOptions(Options):
    seed: int = option(1, "seed")


WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b.weight": np.ones(4, dtype=np.int8)}


def make(path: Path, parents: list[ModelDir] | None = None, value: float = 0.0) -> ModelDir:
    with ModelDir.create(path, "test", NoOptions()) as draft:
        draft.write_json("config.json", {"model_type": "llama", "hidden_size": 3})
        save_file(WEIGHTS | {"c.weight": np.full(2, value, np.float32)}, draft.path / "model.safetensors")
        draft.parents = parents or []
        draft.numbers = {"bits_per_byte": 1.5}
        draft.seed = 1
        draft.prove("largest difference", "weights re-read", 0.0)
    return ModelDir.open(path)


def shard(path: Path) -> Path:
    """The same weights in two shards with an index."""
    make(path)
    (path / "model.safetensors").unlink()
    for number, (name, tensor) in enumerate(WEIGHTS.items(), start=1):
        save_file({name: tensor}, path / f"model-0000{number}-of-00002.safetensors")
    index = {"weight_map": {name: f"model-0000{n}-of-00002.safetensors" for n, name in enumerate(WEIGHTS, start=1)}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def test_create_and_open(tmp_path: Path) -> None:
    made = make(tmp_path / "m")
    assert (made.kind, made.config["model_type"]) == ("model", "llama")
    assert {name: entry.shape for name, entry in made.tensors.items()} == {
        "a.weight": (2, 3),
        "b.weight": (4,),
        "c.weight": (2,),
    }
    hallmark = made.hallmark
    assert hallmark is not None
    assert hallmark.digest == made.digest == path_digest(made.path)
    assert hallmark.files == made.files
    assert (hallmark.step.verb, hallmark.step.options, hallmark.step.seed) == ("test", {"seed": 1}, 1)
    assert made.summary()["bits_per_byte"] == 1.5


def test_entries_point_at_the_bytes(tmp_path: Path) -> None:
    entry = make(tmp_path / "m").tensors["a.weight"]
    found = np.frombuffer(entry.file.read_bytes()[entry.begin : entry.end], np.float32).reshape(entry.shape)
    assert np.array_equal(found, WEIGHTS["a.weight"])


def test_nothing_is_kept_when_a_proof_fails(tmp_path: Path) -> None:
    with pytest.raises(IngotError) as error, ModelDir.create(tmp_path / "m", "test", NoOptions()) as draft:  # noqa: PT012
        draft.write_json("config.json", {"model_type": "llama"})
        draft.prove("largest difference", "weights", 0.1, tolerance=0.01)
    assert error.value.code == "not-proven"
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_never_proves(tmp_path: Path) -> None:
    assert not Proof(check="x", compared="y", difference=float("nan"), tolerance=1.0).holds


def test_writing_without_a_proof_is_our_own_mistake(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="without proving"),
        ModelDir.create(tmp_path / "m", "t", NoOptions()) as draft,
    ):
        draft.write_json("config.json", {"model_type": "llama"})
    assert list(tmp_path.iterdir()) == []


def test_hallmark_carries_every_ancestor_once(tmp_path: Path) -> None:
    base = make(tmp_path / "base")
    left, right = make(tmp_path / "left", [base], 1.0), make(tmp_path / "right", [base], 2.0)
    child = make(tmp_path / "child", [left, right], 3.0)
    assert child.hallmark is not None
    assert [ancestor.digest for ancestor in child.hallmark.ancestry] == [left.digest, base.digest, right.digest]
    assert [parent.name for parent in child.hallmark.step.parents] == ["left", "right"]


def test_shards_open_as_one(tmp_path: Path) -> None:
    assert set(ModelDir.open(shard(tmp_path / "m")).tensors) == set(WEIGHTS)


def _edit(path: Path, **values: Any) -> None:
    index = json.loads((path / "model.safetensors.index.json").read_text())
    (path / "model.safetensors.index.json").write_text(json.dumps(index | values))


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (lambda p: (p / "model-00002-of-00002.safetensors").unlink(), "missing-shard", "model-00002"),
        (lambda p: _edit(p, weight_map={"z.weight": "model-00001-of-00002.safetensors"}), "missing-tensor", "z.weight"),
        (lambda p: _edit(p, weight_map={"a": "../../etc/passwd"}), "bad-json", "passwd"),
        (lambda p: _edit(p, weight_map=3), "bad-json", "weight_map"),
        (lambda p: (p / "model.safetensors.index.json").write_text("{"), "bad-json", "index"),
        (lambda p: (p / "model.safetensors.index.json").unlink(), "no-weights", "model.safetensors"),
        (lambda p: (p / "config.json").write_text("{}"), "no-model-type", "config.json"),
        (lambda p: (p / "config.json").write_text("[]"), "bad-json", "config.json"),
        (lambda p: (p / "config.json").unlink(), "not-a-model-dir", "config.json"),
        (lambda p: (p / "hallmark.json").write_text('{"format": 1}'), "bad-hallmark", "hallmark.json"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path: Path, damage: Any, code: str, words: str) -> None:
    damage(shard(tmp_path / "m"))
    with pytest.raises(IngotError, match=words) as error:
        ModelDir.open(tmp_path / "m")
    assert error.value.code == code


def test_truncation_names_the_tensor(tmp_path: Path) -> None:
    file = make(tmp_path / "m").path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(IngotError, match=r"c\.weight|a\.weight|b\.weight") as error:
        ModelDir.open(tmp_path / "m")
    assert error.value.code == "truncated"


@pytest.mark.parametrize(
    "content",
    [b"", b"\x01", struct.pack("<Q", 10**12) + b"{}", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 2) + b"{{",
     struct.pack("<Q", 60) + b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}'.ljust(60) + b"0000",
     struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'.ljust(60) + b"0000"],
)  # fmt: skip
def test_malformed_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(IngotError, match=r"x\.safetensors") as error:
        read_header(tmp_path / "x.safetensors")
    assert error.value.code == "bad-safetensors"


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(IngotError, match=r"pytorch_model\.bin") as error:
        ModelDir.open(tmp_path)
    assert error.value.code == "pickle-weights"


def test_kinds(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    assert ModelDir.open(tmp_path).kind == "tokenizer"
    (tmp_path / "adapter_config.json").write_text("{}")
    save_file(WEIGHTS, tmp_path / "adapter_model.safetensors")
    assert ModelDir.open(tmp_path).kind == "adapter"
    with pytest.raises(IngotError) as error:
        ModelDir.open(tmp_path / "nowhere")
    assert error.value.code == "no-such-directory"


def test_split_reference(tmp_path: Path) -> None:
    assert split_reference("a+b") == (Path("a"), [Path("b")])
    assert split_reference("a+b+c") == (Path("a"), [Path("b"), Path("c")])
    assert split_reference("a") == (Path("a"), [])
    (tmp_path / "a+b").mkdir()
    assert split_reference(str(tmp_path / "a+b")) == (tmp_path / "a+b", [])
    assert split_reference(f"{tmp_path / 'a+b'}+c+{tmp_path / 'a+b'}") == (
        tmp_path / "a+b",
        [Path("c"), tmp_path / "a+b"],
    )


def test_text_files_are_carried_byte_for_byte(tmp_path: Path) -> None:
    parent = make(tmp_path / "p")
    (parent.path / "chat_template.jinja").write_bytes("{{ 世界 }}\r\n".encode())
    with ModelDir.create(tmp_path / "c", "test", NoOptions()) as draft:
        draft.copy_text_files(parent)
        draft.write_json("config.json", {"model_type": "llama"})
        save_file(WEIGHTS, draft.path / "model.safetensors")
        draft.prove("x", "y", 0.0)
    assert (tmp_path / "c/chat_template.jinja").read_bytes() == "{{ 世界 }}\r\n".encode()


def test_hallmark_refuses_unknown_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="extra"):
        Step.model_validate({"verb": "x", "options": {}, "mood": "good"})
    assert Hallmark.read(tmp_path) is None


def test_versions_name_what_is_loaded() -> None:
    assert {"python", "platform", "numpy"} <= set(versions())
