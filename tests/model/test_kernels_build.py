"""The kernels' library: named by what it is made of, private, and where it cannot be had one sentence says why."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ingot.core.cache import cache_directory, is_ours
from ingot.core.errors import IngotError
from ingot.model.kernels import build, library


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A cache for each test; gives the one of the session."""
    before = os.environ["INGOT_CACHE"]
    monkeypatch.setenv("INGOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("INGOT_KERNELS", raising=False)
    library._find.cache_clear()
    yield before
    library._find.cache_clear()


def compiler(path: Path, script: str) -> str:
    """A stand-in for g++."""
    path.write_text(f"#!{sys.executable}\nimport sys\narguments = sys.argv[1:]\n{script}\n")
    path.chmod(0o700)
    return str(path)


MAKES = """
if "--version" in arguments: print("1.0")
else: open(arguments[arguments.index("-o") + 1], "w").write("library")
"""


def test_named_by_what_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "c++", MAKES))
    path = build.library_path()
    assert path.parent == cache_directory("kernels")
    assert path.stat().st_mode & 0o777 == path.parent.stat().st_mode & 0o777 == 0o700
    made = path.stat().st_mtime_ns
    assert build.library_path() == path
    assert path.stat().st_mtime_ns == made
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-O2"))
    flags = build.library_path()
    compiler(tmp_path / "c++", MAKES.replace("1.0", "1.1"))
    version = build.library_path()
    monkeypatch.setenv("CXX", f"{tmp_path / 'c++'} -m64")
    assert len({path, flags, version, build.library_path()}) == 4
    assert [file.suffix for file in path.parent.iterdir()] == [".so"] * 4


def test_openmp_is_torchs_and_not_another_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was imported before: torch's own, else the machine's, and one of other packages last."""
    own, system = str(Path(torch.__file__).parent), "/usr/lib/libgomp.so.1"
    others = ["/a/scikit_learn.libs/libgomp-e9.so.1.0.0", "/a/sentencepiece.libs/libgomp-6a.so.1.0.0"]
    monkeypatch.setattr(build, "MAPS", str(tmp_path / "maps"))
    for torchs in (f"{own}/lib/libgomp.so.1", f"{own}.libs/libgomp-24.so.1.0.0", system):
        lines = [f"7f00-7f01 r-xp 00000000 08:01 5                          {path}" for path in (*others, torchs)]
        (tmp_path / "maps").write_text("\n".join([*lines, "7f02-7f03 rw-p 00000000 00:00 0"]))
        assert build._openmp() == [torchs]
    (tmp_path / "maps").write_text(lines[0])
    assert build._openmp() == others[:1]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("print('a.cpp:1: error: no such option', file=sys.stderr); sys.exit(1)", "no such option"),
        ("if '--version' not in arguments: sys.exit(3)\nprint('1')", "could not build"),
        (MAKES, "could not build"),  # what it makes is no library
    ],
)
def test_a_compiler_that_fails(
    script: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "cpu_flags", lambda: library.VECTORS)
    monkeypatch.setenv("CXX", compiler(tmp_path / "c++", script))
    assert library.kernels() is None
    assert library.kernels() is None
    assert caplog.text.count("few-bit weights run without compiled kernels") == 1
    assert words in caplog.text
    directory = cache_directory("kernels")
    assert directory is not None
    assert not list(directory.glob("*.partial"))


@pytest.mark.parametrize(
    ("variables", "flags", "code"),
    [
        ({"INGOT_KERNELS": "off"}, library.VECTORS, "kernels-off"),
        ({}, library.VECTORS - {"avx512_vnni"}, "kernels-no-cpu"),
        ({"PATH": "", "CXX": ""}, library.VECTORS, "kernels-no-compiler"),
        ({"INGOT_CACHE": "/dev/null/none"}, library.VECTORS, "kernels-no-cache"),
    ],
)
def test_reasons(
    variables: dict[str, str], flags: frozenset[str], code: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(library, "cpu_flags", lambda: flags)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert library.kernels() is None
    found = library._find(os.environ.get("INGOT_KERNELS", "auto"))
    assert isinstance(found, IngotError)
    assert found.code == code
    assert str(found) in caplog.text


def test_a_word_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_KERNELS", "vector")
    with pytest.raises(IngotError, match="did you mean vectors"):
        library.kernels()


def test_what_others_could_have_written_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "c++", MAKES))
    path = build.library_path()
    assert is_ours(path)
    path.chmod(0o722)
    with pytest.raises(IngotError, match="open to others"):
        build.library_path()
    path.chmod(0o700)
    path.parent.chmod(0o777)
    with pytest.raises(IngotError, match="open to others"):
        build.library_path()
    path.parent.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(IngotError, match="open to others"):
        build.library_path()


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_CACHE", str(tmp_path / "own"))
    assert cache_directory("a") == tmp_path / "own" / "a"
    monkeypatch.delenv("INGOT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory("a") == tmp_path / "xdg" / "ingot" / "a"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory("a") == tmp_path / "home" / ".cache" / "ingot" / "a"


def test_vectors_alone_when_asked(shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_CACHE", shared)
    monkeypatch.setenv("INGOT_KERNELS", "vectors")
    found = library.kernels()
    if found is None:
        pytest.skip("this machine runs no kernels")
    assert found.name == "AVX512-VNNI"
