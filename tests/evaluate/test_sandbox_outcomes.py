"""Every way to end has its name; what tests see of a program's values is what Python would show them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandboxing import LINUX, indented, run

from ingot.core.errors import IngotError
from ingot.evaluate.sandbox.guest.session import overtime
from ingot.evaluate.sandbox.pool import Pool, run_programs
from ingot.evaluate.sandbox.program import Program, limit_for

pytestmark = LINUX


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as found:
        yield found


ENDINGS = {
    "passed": ("def f(): return 1", "assert f() == 1", ""),
    "wrong": ("def f(): return 2", "\n\nassert f() == 1", "line 3 of the tests"),
    "a value of the wrong type": ("def f(): return None", "assert abs(f() - 1) < 1", "TypeError"),
    "error": ("def f(): return 1 / 0", "f()", "ZeroDivisionError: division by zero"),
    "error in loading": ("raise ValueError('at once')", "f()", "ValueError: at once"),
    "syntax-error": ("def f(:", "f()", "SyntaxError: invalid syntax"),
    "indentation": ("def f():\nreturn 1", "f()", "IndentationError"),
    "a NUL": ("def f(): return 1\0", "f()", "null bytes"),
    "a lone surrogate": ("def f(): return '\ud800'", "f()", "Unicode"),
    "no-entry-point": ("def g(): return 1", "f()", "f"),
    "nothing at all": ("", "f()", "f"),
    "output-limit": ("def f():\n while True: print('x' * 1000)", "f()", "1048576 bytes"),
    "output in loading": ("while True: print('x' * 1000)", "f()", "1048576 bytes"),
    "timeout in loading": ("while True: pass", "f()", "0.5 s on the processor"),
    "timeout": ("def f():\n while True: pass", "f()", "0.5 s on the processor"),
    "an import that hangs": ("import time\ntime.sleep(1000)", "f()", "asleep for 0.5 s"),
    "a "
    "lock": ("import threading\ndef f():\n lock = threading.Lock()\n lock.acquire()\n"
        " lock.acquire()", "f()", "asleep"),
    "memory": ("def f(): return [0] * 10**11", "f()", "MemoryError"),
    "recursion": ("def f(): return f()", "f()", "RecursionError"),
    "recursion without a bound": (
        "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n def __repr__(s): return repr(s)\n"
        "def f(): return repr(A())",
        "f()", "crashed: SIGSEGV"),
    "input": ("def f(): return input()", "f()", "EOFError"),
    "exit": ("import sys\ndef f(): sys.exit(3)", "f()", "SystemExit: 3"),
    "a message that fails": (
        "class E(Exception):\n def __str__(s): raise ValueError\ndef f(): raise E", "f()", "E: "),
}  # fmt: skip
NAMES = {
    "a value of the wrong type": "wrong", "error in loading": "error", "indentation": "syntax-error",
    "a NUL": "syntax-error", "a lone surrogate": "error", "nothing at all": "no-entry-point",
    "output in loading": "output-limit", "timeout in loading": "timeout", "an import that hangs": "timeout",
    "a lock": "timeout", "recursion": "error", "recursion without a bound": "error", "input": "error", "exit": "error",
    "a message that fails": "error",
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_every_ending_has_its_name(pool: Pool, name: str) -> None:
    source, tests, cause = ENDINGS[name]
    outcome = run(pool, source, tests, "f", cpu=0.5)
    assert outcome.verdict == NAMES.get(name, name), outcome
    assert cause in outcome.cause


def test_five_megabytes_of_source(pool: Pool) -> None:
    assert run(pool, "x = 1\n" * 800_000 + "def f(): return x", "assert f() == 1", "f", cpu=60).passed
    assert run(pool, "#" * 5_000_000, "f()", "f").verdict == "no-entry-point"


def test_what_is_printed_is_kept_in_part(pool: Pool) -> None:
    outcome = run(pool, "import os\nos.write(1, b'\\xff\\xfe')\nprint('hello ' * 1000)\ndef f(): return 1", "f()", "f")
    assert outcome.passed
    assert outcome.output.startswith("\ufffd\ufffdhello")
    assert (len(outcome.output.encode("utf-8", "replace")) < 5000, outcome.printed) == (True, 6003)


VALUES = [
    "None", "True", "0", "-1", "10**40", "-(2**64)", "0.1", "float('inf')", "-0.0", "1 + "
    "2j", "''", "'天空 𠮷'", "'\\ud800'",
    "b'\\0\\xff'", "bytearray(b'ab')", "[]", "[1, [2, [3]]]", "()", "(1,)", "{1, 2}", "frozenset([(1, 2)])", "{}",
    "{'a': [1], (1, 2): {3: None}}", "range(1, 9, 2)", "int", "type(None)", "__import__('decimal').Decimal('1.10')",
    "__import__('fractions').Fraction(1, 3)", "__import__('collections').deque([1, 2])",
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_values_arrive_as_they_are(pool: Pool, value: str) -> None:
    """Both ways: as an argument, and as what comes back, with its type."""
    tests = f"got = f({value})\nassert got == {value} and type(got) is type({value}) and repr(got) == repr({value})"
    assert run(pool, "def f(x): return x", tests, "f").passed
    assert run(pool, f"def f(): return {value}", tests.replace(f"f({value})", "f()"), "f").passed


SEMANTICS = {
    "a changed "
    "argument": ("def f(x): x.append(3); x[0][0] = 9", "a = [[1]]\nb = a[0]\nf(a)\nassert a == [[9], 3] and b == [9]"),
    "a changed dictionary": ("def f(x): x.clear(); x['n'] = {1}", "a = {'o': 1}\nf(a)\nassert a == {'n': {1}}"),
    "a changed keyword": ("def f(*, x): x.add(2)", "a = {1}\nf(x=a)\nassert a == {1, 2}"),
    "an unchanged argument": ("def f(x): return sorted(x)", "a = [2, 1]\nassert f(a) == [1, 2] and a == [2, 1]"),
    "a counter equals a "
    "dictionary": ("from collections import Counter\n"
        "def f(): return Counter('aab')", "assert f() == {'a': 2, 'b': 1}"),
    "a named "
    "tuple": ("from collections import namedtuple\n"
        "def f(): return namedtuple('P', 'x y')(1, 2)", "assert f() == (1, 2)"),
    "a generator": ("def f(n): yield from range(n)", "assert list(f(3)) == [0, 1, 2] and sorted(f(2)) == [0, 1]"),
    "a map": ("def f(x): return map(str, x)", "assert tuple(f([1, 2])) == ('1', '2')"),
    "an exception that is expected": (
        "def f(): raise "
        "KeyError('k')", "try:\n    f()\nexcept LookupError as e:\n    assert 'k' in str(e)\nelse:\n    assert False"),
    "an object that is true": ("import re\ndef f(x): return re.match('a', x)", "assert f('ab') and not f('b')"),
    "an object of its own": (
        "class N:\n    def __init__(s, v): s.v, s.left = v, None\ndef f(n): return n.left.v if n.left else n.v",
        "r = N(1)\nassert f(r) == 1\nr.left = N(2)\nassert f(r) == 2 and r.left.v == 2 and str(r.v) == '1'"),
    "a function that is returned": ("def f(n): return lambda x: x + n", "assert f(2)(3) == 5"),
    "a type that is asked for": ("def f(x, t): return isinstance(x, t)", "assert f(1, int) and not f('', int)"),
    "a module of the tests": ("def f(x): return x", "assert f(math.pi) == math.pi"),
    "a name of a built-in": ("def f(x): return -x", "assert f(1) == -1"),
    "state between calls": ("n = 0\ndef f():\n    global n\n    n += 1\n    return n", "assert [f(), f()] == [1, 2]"),
    "a list in a list of itself": ("def f():\n    x = []\n    x.append(x)\n    return x", "assert f()"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEMANTICS)
def test_tests_see_what_they_would_in_one_process(pool: Pool, name: str) -> None:
    source, tests = SEMANTICS[name]
    outcome = run(pool, source, tests, "f")
    assert outcome.passed, outcome
    space: dict[str, object] = {"math": __import__("math")}
    exec(source, space)
    exec(tests, space)


def test_an_object_equals_nothing_it_did_not_earn(pool: Pool) -> None:
    assert run(pool, "class A: pass\ndef f(): return A()", "assert f() == f()", "f").verdict == "wrong"


def test_the_same_program_prints_the_same(pool: Pool) -> None:
    """Hashes, addresses, draws, locale, zone, processor; in one worker and in another."""
    body = """
import os, random, sys, time, locale
print({"b", "a", "c"}, hash("x"), hash(None), id(object()), random.random(), time.tzname, os.environ, sys.argv)
print(sys.getfilesystemencoding(), locale.getlocale(), len(os.sched_getaffinity(0)), os.getpid(), os.uname().nodename)
"""
    first = run(pool, indented(body)).output
    assert first
    assert run(pool, indented(body)).output == first
    with Pool(1) as other:
        assert run(other, indented(body)).output == first


@pytest.mark.slow
def test_outcomes_come_in_order_and_a_broken_worker_is_replaced() -> None:
    programs = [Program(f"def f(): return {n}", f"assert f() == {n - (n == 5)}", ("f",)) for n in range(20)]
    assert [outcome.passed for outcome in run_programs(programs)] == [n != 5 for n in range(20)]
    with Pool(2) as pool:
        assert all(outcome.passed for outcome in pool.run(programs[:4]))
        pool.workers[0].process.kill()
        assert [outcome.passed for outcome in pool.run(programs)] == [n != 5 for n in range(20)]


@pytest.mark.slow
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process, descriptor, temporary or shared file after a pool is closed, however its programs ended."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def left() -> tuple[int, list[str], list[str], int]:
        names = [path.name for path in Path("/proc").iterdir() if path.name.isdigit() and is_ours(path)]
        return (
            len(os.listdir("/proc/self/fd")),
            sorted(os.listdir("/dev/shm")),
            sorted(os.listdir(tmp_path)),
            len(names),
        )

    def is_ours(path: Path) -> bool:
        try:
            return (
                b"guest.keeper" in (path / "cmdline").read_bytes() and str(os.getpid()) in (path / "status").read_text()
            )
        except OSError:
            return False

    before = left()
    with Pool(2) as pool:
        sources = ["def f(): return 1", "import os\nos._exit(1)", "def f():\n while True: pass", "import os\nos.fork()"]
        programs = [Program(source, "f()", ("f",), "", 0.3) for source in sources * 5]
        assert len(list(pool.run(programs))) == 20
    assert left() == before


def test_limits_follow_the_reference() -> None:
    assert [limit_for(seconds) for seconds in (0.0, 0.4, 1.0)] == [4.0, 4.0, 10.0]


def test_a_starved_program_is_not_a_sleeping_one() -> None:
    assert overtime(cpu=1.0, wall=4.0, limit=4.0) is None  # a quarter of a processor
    assert overtime(cpu=3.9, wall=15.6, limit=4.0) is None
    assert overtime(cpu=4.0, wall=16.0, limit=4.0) == "4 s on the processor"
    assert overtime(cpu=0.05, wall=4.0, limit=4.0) == "asleep for 4 s"
    assert overtime(cpu=3.9, wall=194.0, limit=4.0) is None
    assert overtime(cpu=3.999, wall=200.0, limit=4.0) == "asleep for 4 s"  # no program lasts longer


def test_without_walls_nothing_runs() -> None:
    without = ["user", "mount", "net", "ipc", "uts", "pid", "seccomp", "landlock"]
    with pytest.raises(IngotError, match="seccomp: left out on request") as error:
        Pool(1, without=without)
    assert error.value.code == "sandbox-unprotected"
    with Pool(1, unprotected=True, without=without) as pool:
        assert pool.protection.level == "none"
        assert run(pool, "def f(): return 1", "assert f() == 1", "f").passed
        assert run(pool, "import os\nos._exit(0)", "f()", "f").verdict == "error"
        assert run(pool, "def f():\n while True: pass", "f()", "f", cpu=0.3).verdict == "timeout"


def test_a_probe_that_gets_through_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    from ingot.evaluate.sandbox import pool

    leaking = Program("def found(): return ['out']", "assert found() == []", ("found",))
    monkeypatch.setitem(pool.PROBES, "read files", leaking)
    with pytest.raises(IngotError, match="'read files'"):
        Pool(1)


SCRIPT = """
import os, sys
from ingot.evaluate.sandbox import pool, worker
from ingot.evaluate.sandbox.program import Program
worker.sys.executable, worker.python_folders = sys.argv[1], lambda: [sys.argv[2]]
worker.START = worker.START.replace("{folder!r}", repr(sys.argv[3]))
os.setgroups([]), os.setgid(65534), os.setuid(65534)
with pool.Pool(1) as found:
    sources = ["def f(): return 1", "import os\\nos.fork()"]
    programs = [Program(source, "assert f() == 1", ("f",)) for source in sources]
    print(found.protection.level, *[outcome.verdict for outcome in found.run(programs)])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody, and anyone else is a plain user already")
def test_a_plain_user_has_full_walls(tmp_path: Path) -> None:
    """With a Python and modules that nobody can read."""
    python = next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists()), None)
    if python is None:
        pytest.skip("no Python that every user can read")
    ask = "import sys, sysconfig; print(sysconfig.get_path('stdlib'), sys.version_info >= (3, 11))"
    folder, new = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    if new != "True":
        pytest.skip("the Python that every user can read is older than 3.11")
    guest = Path(__file__).parents[2] / "src/ingot/evaluate/sandbox/guest"
    place = Path(shutil.copytree(guest, Path("/var/tmp") / f"ingot-guest-{os.getpid()}" / "guest"))
    place.parent.chmod(0o755)
    try:
        command = [sys.executable, "-c", SCRIPT, python, os.path.realpath(folder), str(place.parent)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TMPDIR": "/var/tmp"})
    finally:
        shutil.rmtree(place.parent)
    level, *verdicts = done.stdout.split() or [""]
    assert verdicts == ["passed", "blocked"], done.stderr
    if level != "full":
        pytest.skip("this machine gives a plain user no namespaces")
