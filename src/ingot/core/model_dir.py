"""ModelDir: a directory in the Hugging Face layout, opened with every cheap check, and written proven or not at all.

Kinds: a model (config.json + safetensors), an adapter (PEFT: adapter_config.json + adapter_model.safetensors) and a
tokenizer alone. Opening reads only JSON and safetensors headers: no torch, no pickle, no remote code. Values (NaN,
shapes against the architecture) are checked where tensors are read, in ingot.model.

Writing goes through `ModelDir.create`: files are written into a temporary sibling, the caller states what it
re-opened and compared, then the whole is digested, given its hallmark and renamed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.core.files import directory_files, new_directory, path_digest, tree_digest
from ingot.core.hallmark import Ancestor, Hallmark, Proof, Source, Step, now, versions
from ingot.core.options import Options

TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
"""Files that carry the text side of a model; every step that writes a model copies those its parent has."""

MAX_HEADER = 100_000_000
"""safetensors' own bound on its JSON header, bytes."""

ITEM_BYTES = dict(F64=8, I64=8, F32=4, I32=4, U32=4, F16=2, BF16=2, I16=2, I8=1, U8=1, BOOL=1, F8_E4M3=1, F8_E5M2=1)  # noqa: C408


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies: its name, file, safetensors dtype, shape, and byte range in the file."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class ModelDir:
    """An opened directory. Build it with `ModelDir.open`; `path` is the directory, `kind` what it holds."""

    path: Path
    kind: str
    config: dict[str, Any]
    tensors: dict[str, TensorEntry]
    hallmark: Hallmark | None

    @classmethod
    def open(cls, path: str | Path) -> ModelDir:
        """Open and check a directory. Raises IngotError naming the file or tensor that is wrong."""
        path = Path(path)
        if not path.is_dir():
            raise fail("no-such-directory", path=path)
        kind, config = _kind_and_config(path)
        tensors = {} if kind == "tokenizer" else _tensors(path, "adapter_model" if kind == "adapter" else "model")
        return cls(path, kind, config, tensors, Hallmark.read(path))

    @cached_property
    def files(self) -> dict[str, str]:
        """{relative name: sha256} of what lies there now."""
        return directory_files(self.path)

    @property
    def digest(self) -> str:
        """Identity of the contents as they lie there now."""
        return tree_digest(self.files)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def source(self) -> Source:
        """This directory as a parent in a hallmark."""
        return Source(name=self.name, digest=self.digest)

    def text_files(self) -> list[Path]:
        """The tokenizer, template and other text-side files present."""
        return [self.path / name for name in TEXT_FILES if (self.path / name).exists()]

    def weight_files(self) -> list[Path]:
        """Every file of weights, and the index of shards where there is one."""
        return sorted({entry.file for entry in self.tensors.values()} | set(self.path.glob("*.safetensors.index.json")))

    def summary(self) -> dict[str, Any]:
        numbers = self.hallmark.step.numbers if self.hallmark else {}
        return {"path": str(self.path), "kind": self.kind, "digest": self.digest, **numbers}

    @classmethod
    @contextlib.contextmanager
    def create(cls, out: Path, verb: str, options: Options, started: float | None = None) -> Iterator[Draft]:
        """Yield a Draft to fill. When the block ends, it is checked, hallmarked and renamed to `out`.

        `started` is when the step began (time.monotonic), where that was before this call.
        """
        started = time.monotonic() if started is None else started
        with new_directory(out) as partial:
            draft = Draft(partial, out, verb, options)
            yield draft
            draft.seal(time.monotonic() - started)


@dataclass
class Draft:
    """A directory being written. Write files below `path`, record what went in and what was proven."""

    path: Path
    out: Path
    verb: str
    options: Options
    seed: int | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    proof: list[Proof] = field(default_factory=list)
    data: list[Source] = field(default_factory=list)
    parents: list[ModelDir] = field(default_factory=list)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (self.path / name).write_text(text, encoding="utf-8")

    def copy_text_files(self, parent: ModelDir) -> None:
        """Carry the parent's tokenizer and chat template over, byte for byte."""
        for file in parent.text_files():
            (self.path / file.name).write_bytes(file.read_bytes())

    def copy_weights(self, parent: ModelDir) -> None:
        """Carry the parent's weights over, byte for byte."""
        for file in parent.weight_files():
            shutil.copyfile(file, self.path / file.name)

    def read_data(self, path: Path, licence: str | None = None) -> None:
        """Record a data file or folder that went in."""
        self.data.append(Source(name=path.resolve().name, digest=path_digest(path), licence=licence))

    def prove(self, check: str, compared: str, difference: float, tolerance: float = 0.0) -> None:
        """Record one comparison of what was re-opened. Raises `not-proven` when it does not hold."""
        proof = Proof(check=check, compared=compared, difference=difference, tolerance=tolerance)
        if not proof.holds:
            raise fail("not-proven", check=check, compared=compared, difference=difference, tolerance=tolerance)
        self.proof.append(proof)

    def seal(self, seconds: float) -> None:
        """Re-open, digest, and write the hallmark."""
        assert self.proof, f"{self.verb} wrote {self.out} without proving anything"
        ModelDir.open(self.path)
        files = directory_files(self.path)
        step = Step(
            verb=self.verb,
            options=self.options.model_dump(mode="json"),
            parents=[parent.source() for parent in self.parents],
            data=self.data,
            seed=self.seed,
            numbers=self.numbers,
            proof=self.proof,
            versions=versions(),
            finished=now(),
            seconds=round(seconds, 3),
        )
        Hallmark(digest=tree_digest(files), files=files, step=step, ancestry=_ancestry(self.parents)).write(self.path)


def split_reference(reference: str) -> tuple[Path, list[Path]]:
    """`model+adapter+adapter` -> the model and its adapters. A path that exists as it stands is never split."""
    words, paths = reference.split("+"), []
    while words:
        whole = ["+".join(words[:end]) for end in range(len(words), 1, -1)]
        path = next((path for path in whole if Path(path).exists()), words[0])
        paths.append(Path(path))
        words = words[path.count("+") + 1 :]
    return paths[0], paths[1:]


def _ancestry(parents: list[ModelDir]) -> list[Ancestor]:
    """The steps of all parents and their ancestors, each once, parents first."""
    found: dict[str, Ancestor] = {}
    for parent in parents:
        if parent.hallmark:
            own = Ancestor(digest=parent.hallmark.digest, step=parent.hallmark.step)
            for ancestor in (own, *parent.hallmark.ancestry):
                found.setdefault(ancestor.digest, ancestor)
    return list(found.values())


def _kind_and_config(path: Path) -> tuple[str, dict[str, Any]]:
    if (path / "adapter_config.json").exists():
        return "adapter", read_json(path / "adapter_config.json")
    if (path / "config.json").exists():
        config = read_json(path / "config.json")
        if not isinstance(config.get("model_type"), str):
            raise fail("no-model-type", path=path / "config.json")
        return "model", config
    if (path / "tokenizer.json").exists():
        return "tokenizer", {}
    raise fail("not-a-model-dir", path=path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `bad-json` naming the file and the place."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise fail("no-such-file", path=path) from None
    except ValueError as error:
        raise fail("bad-json", path=path, reason=str(error)) from error
    if not isinstance(content, dict):
        raise fail("bad-json", path=path, reason="expected an object")
    return content


def _tensors(path: Path, stem: str) -> dict[str, TensorEntry]:
    """Headers of the single file or of all shards, checked against the index and the files' sizes."""
    single, index = path / f"{stem}.safetensors", path / f"{stem}.safetensors.index.json"
    if single.exists():
        return read_header(single)
    if not index.exists():
        pickles = sorted(p.name for p in path.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"})
        raise (
            fail("pickle-weights", path=path, files=", ".join(pickles)) if pickles else fail("no-weights", path=single)
        )
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise fail("bad-json", path=index, reason="no weight_map")
    tensors: dict[str, TensorEntry] = {}
    for shard in sorted(set(map(str, weight_map.values()))):
        if Path(shard).name != shard:
            raise fail("bad-json", path=index, reason=f"shard outside the directory: {shard!r}")
        tensors.update(read_header(path / shard))
    for name, shard in weight_map.items():
        if name not in tensors or tensors[name].file.name != shard:
            raise fail("missing-tensor", tensor=name, path=path / shard)
    return tensors


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors a safetensors file declares. Raises when it is missing, malformed or shorter than it declares."""
    if not path.exists():
        raise fail("missing-shard", path=path)
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(MAX_HEADER, size - 8):
                raise ValueError(f"its header claims {length} bytes, the file has {size}")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        return {name: _entry(path, name, info, 8 + length, size) for name, info in header.items()}
    except (ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        if type(error).__name__ == "IngotError":
            raise
        raise fail("bad-safetensors", path=path, reason=str(error)) from error


def _entry(path: Path, name: str, info: dict[str, Any], offset: int, size: int) -> TensorEntry:
    shape = tuple(int(extent) for extent in info["shape"])
    begin, end = (offset + int(position) for position in info["data_offsets"])
    expected = ITEM_BYTES[info["dtype"]]
    for extent in shape:
        expected *= extent
    if end > size or begin < offset:
        raise fail("truncated", tensor=name, path=path, found=size, expected=end)
    if end - begin != expected:
        raise fail("bad-safetensors", path=path, reason=f"{name}: {end - begin} bytes for shape {list(shape)}")
    return TensorEntry(name, path, info["dtype"], shape, begin, end)
