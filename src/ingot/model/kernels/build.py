"""The kernels, compiled on the user's machine at their first use: a wheel for every CPU and torch would be many.

The library lies in the user's cache under a name that follows from all that went into it (sources, compiler, flags,
torch's OpenMP), so it is never stale, and several processes may make it at once: each renames a file of its own.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import torch  # brings the OpenMP library in, which the kernels must share

from ingot.core.cache import cache_directory, is_ours
from ingot.core.errors import fail

SOURCES = Path(__file__).parent
ISA = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "fma", "gfni", "amx-tile", "amx-int8")
"""Instructions that the sources may name; which of them run is decided when the library is opened."""

FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fopenmp", "-ffp-contract=off", *(f"-m{name}" for name in ISA))
"""Contraction is off because a compiler that joins a product and a sum where it likes makes two kernels differ."""

MAPS = "/proc/self/maps"

SECONDS = 300.0
"""How long a compiler may take; g++ 12 takes ten seconds on one busy core."""


def library_path() -> Path:
    """The compiled library, made if need be.

    Raises `kernels-no-compiler`, `kernels-not-compiled`, `kernels-no-cache`."""
    compiler = _compiler()
    directory = cache_directory("kernels")
    if directory is None:
        raise fail("kernels-no-cache")
    path = directory / f"{_digest(compiler)}.so"
    if not path.exists():
        _compile(compiler, path)
    if not is_ours(path):
        raise fail("kernels-no-cache")
    return path


def _compiler() -> list[str]:
    """The command of a C++ compiler: `CXX`, g++ or clang++."""
    named = shlex.split(os.environ.get("CXX", ""))
    found = next((name for name in (*named[:1], "g++", "clang++") if shutil.which(name)), None)
    if found is None:
        raise fail("kernels-no-compiler")
    return named if named[:1] == [found] else [found]


def _sources() -> list[Path]:
    return sorted(SOURCES.glob("*.cpp"))


def _openmp() -> list[str]:
    """The OpenMP library that torch has loaded: with another, torch.set_num_threads would not act on the kernels.

    Other packages bring their own; torch's lies below `torch` or `torch.libs`, or is the machine's."""
    try:
        lines = Path(MAPS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = {line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line}
    own = str(Path(torch.__file__).parent)
    return sorted(found, key=lambda path: (not path.startswith(own), ".libs/" in path, path))[:1]


def _digest(compiler: list[str]) -> str:
    version = _run([*compiler, "--version"])
    digest = hashlib.sha256(repr((compiler, version, FLAGS, _openmp())).encode())
    for path in sorted((*_sources(), *SOURCES.glob("*.h"))):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def _compile(compiler: list[str], path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _run([*compiler, *FLAGS, *map(str, _sources()), *_openmp(), "-o", str(partial)])
        partial.chmod(0o700)
        partial.replace(path)
    except OSError as error:
        raise fail("kernels-not-compiled", command=compiler[0], reason=error) from None
    finally:
        partial.unlink(missing_ok=True)


def _run(command: list[str]) -> str:
    """What a compiler says. Raises `kernels-not-compiled` with its first error."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)  # noqa: S603  (a list, no shell)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise fail("kernels-not-compiled", command=command[0], reason=error) from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
        raise fail("kernels-not-compiled", command=command[0], reason=lines[0])
    return done.stdout
