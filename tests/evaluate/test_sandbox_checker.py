"""One checker serves many programs: nothing of one, nor of its tests, is there for the next."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandboxing import LINUX, run

from ingot.evaluate.sandbox.guest.lasting import is_lasting
from ingot.evaluate.sandbox.pool import Pool
from ingot.evaluate.sandbox.program import Program
from ingot.evaluate.sandbox.worker import WorkerLostError

pytestmark = LINUX

ONE = "def f(): return 1"
WIRE = (
    "import os, struct\ndef f():\n    body = {}\n    os.write(3, struct.pack('<I', len(body)) + body)\n    return 1\n"
)


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(1) as found:
        assert run(found, ONE, "assert f() == 1", "f").passed
        yield found


def processes(pool: Pool) -> list[int]:
    """A worker's own: they were all forked from the one that was started with its folder's name."""
    name, found = str(pool.workers[0].scratch).encode(), []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                found += [int(path.name)] * (name in (path / "cmdline").read_bytes())
            except OSError:
                continue
    return sorted(found)


HARMLESS = {
    "assertions": "def check(f):\n    assert f(1) == 2, 'two'\n    assert abs(f(0.1) - 1) < 1e-6\ncheck(f)",
    "containers": "METADATA = {'author': 'x'}\nx = [1]\nx[0] = f(x)\nx.append(2)\nassert sorted(x) == [1, 2]",
    "modules": "import math, random\nfrom typing import List\nfrom copy import deepcopy\nassert f(math.pi)\n"
    "assert f([random.randint(1, 9) for _ in range(3)])",
    "an exception": "try:\n    f()\nexcept ValueError as error:\n    assert 'x' in str(error)",
    "a method of its own name": "helper = {'n': lambda: 1}\nassert helper['n']() == f(helper.get)",
    "the program's names": "assert f(other(1)).join(g)",
}
LASTING = {
    "a module's attribute": "import math\nmath.pi = f()",
    "an attribute that goes": "import math\ndel math.pi",
    "within a function": "import math\ndef check():\n    def inner():\n        math.pi = 3\n    inner()\ncheck()",
    "another module": "import sys\nsys.setrecursionlimit(50)",
    "another module by name alone": "assert f(os.getpid())",
    "another module, renamed": "import decimal as math\nassert f(math)",
    "another module, as itself": "import os\nassert f(os)",
    "part of another module": "from os import path\nassert f(path)",
    "imported within a function": "def check():\n    import os\n    f(os)\nos = 1\ncheck()",
    "a part of its own name": "from math import dist as path\nfrom sys import path\nf(path)",
    "from another module": "from sys import path as x\nx.append('/')",
    "setattr": "import math\nsetattr(math, 'pi', 3)",
    "a table of a module": "import copy\ncopy.dispatch_table[int] = f",
    "a private name": "import random\nrandom._inst.seed(1)",
    "globals of a function": "import copy\ncopy.deepcopy.__globals__['x'] = 1",
    "exec": "exec('import math')",
    "import by name": "__import__('math')",
    "a class": "class A:\n    def __del__(self): f()\n",
    "the language's names as its own": "__globals__ = 1\nimport copy\ncopy.copy.__globals__['x'] = 1",
}


def lasting(tests: str, *given: str) -> bool:
    return is_lasting([compile(tests, "<tests>", "exec")], given)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_leaves_nothing(name: str) -> None:
    assert not lasting(HARMLESS[name], "f", "g", "other", "join")
    if "f(" in HARMLESS[name]:
        assert lasting(HARMLESS[name])  # whose `f` would that be?


@pytest.mark.parametrize("name", LASTING)
def test_what_could_leave_something(name: str) -> None:
    assert lasting(LASTING[name], "f")


def test_many_names_are_all_read() -> None:
    """Names past the 255th need a longer form in compiled code."""
    begin = "".join(f"n{n} = 1\n" for n in range(300))
    assert not lasting(f"{begin}assert n299 == n298")
    assert lasting(f"{begin}assert n299 == n300")


def test_one_checker_serves_programs_however_they_end(pool: Pool) -> None:
    before = processes(pool)
    ends = ["import os\nos._exit(1)", "def f(): return 2", "import os\nos.fork()", "def f(: return", "", ONE,
            "import os\nos.closerange(3, 64)"]  # fmt: skip
    for source in ends * 2:
        run(pool, source, "assert f() == 1", "f")
        assert processes(pool) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look at the descriptors of another's process")
def test_nothing_stays_open(pool: Pool) -> None:
    def opened() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in processes(pool)]

    before = opened()
    for source in ("import os\nos._exit(1)", "def f(): return 2", "import os\nos.fork()", "def f(: return", ONE) * 3:
        run(pool, source, "assert f() == 1", "f")
    assert opened() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the memory of another's process")
def test_what_programs_are_forked_from_holds_no_tests(pool: Pool) -> None:
    nonce = "secret-of-the-tests"
    assert run(pool, ONE, "import os\nassert f() == 1", "f").passed  # so that a new checker has the next
    assert run(pool, ONE, f"assert f() == 1 and '{nonce}'", "f").passed
    *others, checker = processes(pool)
    assert nonce.encode() in memory(checker)
    assert len(others) == 3
    assert not any(nonce.encode() in memory(pid) for pid in others)


def memory(pid: int) -> bytes:
    """All that a process could write to."""
    parts = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last = (int(number, 16) for number in line.split()[0].split("-"))
            if line.split()[1].startswith("rw"):
                file.seek(first)
                parts.append(file.read(last - first))
    return b"".join(parts)


def test_tests_that_last_have_a_checker_to_themselves(pool: Pool) -> None:
    """It sees nothing of the one before, and the next sees nothing of it."""
    look = "import os\nassert f() == 1\nassert not hasattr(os, 'left')\nos.left = 1"
    plain = processes(pool)
    for _ in range(3):
        assert run(pool, ONE, look, "f").passed
    assert run(pool, ONE, "assert f() == 1", "f").passed
    found = processes(pool)
    assert (found != plain, len(found)) == (True, len(plain))
    assert run(pool, ONE, "import math\nassert math.pi > 3\nmath.pi = f()", "f").passed
    assert run(pool, ONE, "import math\nassert math.pi > 3 and f()", "f").passed


def test_tests_that_last_find_a_checker_that_served_no_other(pool: Pool) -> None:
    """Processes are numbered as they come: a checker and a candidate for each of these, a pair more for plain ones."""

    def number() -> int:
        return int(
            run(pool, "def f(x):\n    print(x)\n    return 1", "import os\nassert f(os.getpid()) == 1", "f").output
        )

    first, second = number(), number()
    assert run(pool, ONE, "assert f() == 1", "f").passed
    assert (second - first, number() - second) == (2, 4)


def test_a_checker_that_is_lost_takes_its_program_along(pool: Pool) -> None:
    worker = pool.workers[0]
    before = processes(pool)
    worker.send(Program("while True: pass", "f()", ("f",), "", 6000.0))
    while len(processes(pool)) == len(before):
        time.sleep(0.01)
    os.kill(before[-1], signal.SIGKILL)
    with pytest.raises(WorkerLostError):
        worker.receive()
    worker.close()
    assert processes(pool) == []


def test_much_memory_is_given_back(pool: Pool) -> None:
    before = processes(pool)
    assert run(pool, ONE, "x = [0] * 40_000_000\nassert f() == 1", "f").passed
    assert run(pool, ONE, "assert f() == 1", "f").passed
    assert processes(pool) != before


def test_a_program_cannot_change_what_the_next_ones_tests_see(pool: Pool) -> None:
    """By values that are none, or names of exceptions that are none."""
    for body in ("b'l\\x02\\0\\0\\0s\\x02\\0\\0\\0okD\\x01\\0\\0\\0x'",
                 "b'l\\x03\\0\\0\\0s\\x06\\0\\0\\0raiseds\\x03\\0\\0\\0a\\0bs\\0\\0\\0\\0'",
                 "b'l\\x03\\0\\0\\0s\\x06\\0\\0\\0raiseds\\x04\\0\\0\\0Trues\\0\\0\\0\\0'"):  # fmt: skip
        assert run(pool, ONE, "assert f() == 1", "f").passed
        before = processes(pool)
        for source in (WIRE.format(body), WIRE.format(body).replace("def f():", "if True:").replace("return 1", "")):
            assert run(pool, source, "assert f() == 1", "f").verdict == "error"
            assert processes(pool) == before
        clean = "import decimal\nassert f() == 1 and not any(decimal.getcontext().flags.values())"
        assert run(pool, ONE, clean, "f").passed


def test_draws_of_tests_are_the_same_each_time(pool: Pool) -> None:
    tests = "import random\nx = [random.random() for _ in range(9)]\nrandom.shuffle(x)\nassert f(x) == x"
    sources = ["seen = []\ndef f(x):\n    print(x)\n    return x\n"] * 2
    first, second = (run(pool, source, tests, "f") for source in sources)
    assert first.passed
    assert first.output == second.output != ""


def test_tests_that_are_no_python_fail_their_program_alone(pool: Pool) -> None:
    before = processes(pool)
    for tests in ("assert f( ==", "x = 1\0", "(" * 300 + ")" * 300):
        outcome = run(pool, ONE, tests, "f")
        assert (outcome.verdict, outcome.cause[:12]) == ("wrong", "line 0 of th")
    assert run(pool, ONE, "assert f() == 1", "f").passed
    assert processes(pool) == before
