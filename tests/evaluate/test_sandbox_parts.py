"""Parts of the sandbox that need no process: estimates, rungs, the filter's program, messages, control groups."""

from __future__ import annotations

import itertools
import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.evaluate.sandbox.cgroup import make_group
from ingot.evaluate.sandbox.estimate import difference, each, mean, pass_at_k
from ingot.evaluate.sandbox.guest import filter
from ingot.evaluate.sandbox.guest.codec import Decoder, Handle, encode
from ingot.evaluate.sandbox.guest.syscalls import MACHINES, numbers
from ingot.evaluate.sandbox.ladder import FULL, MECHANISMS, Protection
from ingot.evaluate.statistics import wilson

HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}


@pytest.mark.parametrize(("num", "right", "k"), [(5, 2, 3), (6, 0, 2), (6, 6, 6), (4, 3, 2), (7, 1, 1)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(num: int, right: int, k: int) -> None:
    draws = list(itertools.combinations([True] * right + [False] * (num - right), k))
    assert pass_at_k(num, right, k) == pytest.approx(float(Fraction(sum(map(any, draws)), len(draws))), abs=1e-15)


def test_pass_at_k_at_its_ends() -> None:
    assert [pass_at_k(200, 200, k) for k in (1, 10, 200)] == [1.0] * 3
    assert [pass_at_k(200, 0, k) for k in (1, 10, 200)] == [0.0] * 3
    assert pass_at_k(200, 1, 200) == 1.0
    for num, right, k in ((9, 3, 10), (9, 10, 1), (9, -1, 1), (9, 3, 0)):
        with pytest.raises(ValueError, match=str(num)):
            pass_at_k(num, right, k)


def test_pass_at_k_is_the_published_product() -> None:
    """Chen et al. 2021, figure 3."""
    for num, right, k in itertools.product((1, 5, 20, 200), (0, 1, 4, 20), (1, 2, 10, 100)):
        if right <= num and k <= num:
            product = 1.0 if num - right < k else 1.0 - np.prod(1.0 - k / np.arange(num - right + 1, num + 1))
            assert pass_at_k(num, right, k) == pytest.approx(product, abs=1e-12)


def test_the_interval_draws_problems() -> None:
    values = each([(10, 10)] * 20 + [(10, 0)] * 20, 1)
    whole = mean(values, seed=0)
    assert whole.value == 0.5
    assert whole.low is not None
    assert whole.high is not None
    assert whole.high - whole.low == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, rel=0.2)  # not of 400 programs
    assert mean(each([(1, 1)] * 30, 1), seed=0) == wilson(30, 30)
    assert difference(values, values, seed=0).low == 0.0


def test_rungs() -> None:
    def level(*standing: str) -> str:
        return Protection({name: None if name in standing else "no" for name in MECHANISMS}).level

    base = {"capabilities", "no_new_privs", "seccomp", "rlimits"}
    assert level(*MECHANISMS) == level(*FULL) == "full"
    assert {level(*(FULL - {name})) for name in FULL - base - {"root"}} == {"partial"}
    assert (level(*(FULL - {"root"})), level(*(FULL - {"root"}), "landlock")) == ("none", "partial")
    assert {level(*(FULL - {name})) for name in base} == {"none"}
    assert level(*base, "landlock") == level(*base, "root") == "partial"
    assert level(*base) == level("rlimits") == level() == "none"
    assert Protection({"user": None}).missing["pid"] == "not tried"


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"no {header}")
    written = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE))
    found = numbers(machine)
    assert len(found) > 300
    assert {name: number for name, number in found.items() if name in written and int(written[name]) != number} == {}


def answer(program: bytes, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would do: the filter's program, interpreted."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *(*arguments, *[0] * 6)[:6])
    steps = list(struct.iter_unpack("<HBBI", program))
    at, value = 0, 0
    while True:
        code, on_true, on_false, constant = steps[at]
        at += 1
        if code == 0x20:
            value = struct.unpack_from("<I", data, constant)[0]
        elif code == 0x06:
            return constant
        else:
            holds = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[code]
            at += on_true if holds else on_false


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_allows_what_is_listed_and_refuses_the_rest(machine: str) -> None:
    arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
    program = filter.build(machine, filter.RET_NOTIFY, 1)
    known = numbers(machine)
    plain = {name for name in (*filter.ALLOWED, *filter.WITH_SOCKET) if name in known}
    by_argument = {"clone", "socketpair", "prctl", "prlimit64", "ioctl", "tgkill", "fcntl"}
    for name, number in known.items():
        found = answer(program, arch[machine], number, (2**31 - 7,) * 6)
        if name in plain:
            assert found == filter.RET_ALLOW, name
        elif name in filter.QUIET:
            assert found & 0xFFFF0000 == filter.RET_ERRNO, name
        elif name not in by_argument:
            assert found == filter.RET_NOTIFY, name
    other = next(value for name, value in arch.items() if name != machine)
    assert answer(program, other, known["read"]) == filter.RET_KILL
    for number in {*range(1200), 2**30 - 1} - set(known.values()):
        assert answer(program, arch[machine], number) == filter.RET_NOTIFY, number
    if machine == "x86_64":
        assert answer(program, arch[machine], 0x40000000 | known["read"]) == filter.RET_KILL


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_reads_arguments(machine: str) -> None:
    arch, known = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine], numbers(machine)
    program = filter.build(machine, filter.RET_NOTIFY, 7)
    cases: list[tuple[str, tuple[int, ...], bool]] = [
        ("clone", (0x3D0F00,), True), ("clone", (0x11,), False), ("clone", (0x10000000,), False),
        ("socketpair", (1,), True), ("socketpair", (2,), False), ("prctl", (15,), True), ("prctl", (4,), False),
        ("prlimit64", (0,), True), ("prlimit64", (1,), False), ("ioctl", (1, 0x5401), True),
        ("tgkill", (7, 1), True), ("tgkill", (8, 1), False), ("fcntl", (0, 3), True), ("fcntl", (0, 8), False),
        ("fcntl", (0, 10), False),
    ]  # fmt: skip
    for name, arguments, allowed in cases:
        found = answer(program, arch, known[name], arguments)
        assert (found == filter.RET_ALLOW) is allowed, (name, arguments)
    assert answer(program, arch, known["ioctl"], (1, 0x5412)) & 0xFFFF0000 == filter.RET_ERRNO


def no_handle(value: Any) -> Handle:
    raise AssertionError(f"{value!r} was not plain")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=30,
)


@given(PLAIN)
def test_plain_values_come_back(value: Any) -> None:
    found = Decoder(encode(value, no_handle), lambda handle: handle).value()
    assert repr(found) == repr(value)


@given(st.binary(max_size=200))
def test_noise_is_a_value_or_a_value_error(data: bytes) -> None:
    try:
        value = Decoder(data, lambda handle: handle).value()
    except ValueError:
        return
    assert repr(Decoder(encode(value, no_handle), lambda handle: handle).value()) == repr(value)


@given(PLAIN, st.data())
def test_a_damaged_message_is_never_more_than_a_value_error(value: Any, data: st.DataObject) -> None:
    message = bytearray(encode(value, no_handle))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] ^= data.draw(st.integers(1, 255))
    try:
        Decoder(bytes(message), lambda handle: handle).value()
    except ValueError:
        return


def groups(folder: Path, controllers: str) -> tuple[Path, Path]:
    """A tree as systemd makes it, with our own group below a slice."""
    slice_ = folder / "user.slice"
    (slice_ / "own.scope").mkdir(parents=True)
    (folder / "cgroup.controllers").write_text("cpu memory pids\n")
    (slice_ / "cgroup.subtree_control").write_text(controllers)
    own = folder / "own"
    own.write_text("1:name=systemd:/x\n0::/user.slice/own.scope\n")
    return slice_, own


def test_a_control_group_beside_our_own(tmp_path: Path) -> None:
    slice_, own = groups(tmp_path, "memory pids\n")
    made = make_group("ingot-1", 100, 7, tmp_path, own)
    assert made.path == slice_ / "ingot-1"
    assert (made.path / "memory.max").read_text() == "100"
    made.take(42)
    assert (made.path / "cgroup.procs").read_text() == "42"


def test_no_control_group_where_none_was_handed_over(tmp_path: Path) -> None:
    _, own = groups(tmp_path, "cpu\n")
    with pytest.raises(PermissionError, match="not handed"):
        make_group("ingot-1", 100, 7, tmp_path, own)
    with pytest.raises(FileNotFoundError, match="version 2"):
        make_group("ingot-1", 100, 7, tmp_path / "none", own)
    assert not list(tmp_path.rglob("ingot-1"))
