"""Programs that try to be judged right without being right: by their objects, by Python's insides, by the channel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sandboxing import LINUX, run

from ingot.evaluate.sandbox.pool import Pool

pytestmark = LINUX

TESTS = """
NONCE = "c0ffee-" + "that no program can know"
def check(candidate):
    assert candidate(3) == 9
    assert candidate([1, 2]) == [1, 4]
    assert abs(candidate(2.0) - 4.0) < 1e-6
    assert candidate("x") == NONCE
check(square)
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as found:
        yield found


OBJECTS = {
    "__eq__": "class Yes:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
    "    def __bool__(self): return True\n"
    "    def __sub__(self, other): return self\n    def __abs__(self): return 0.0\n"
    "    def __lt__(self, other): return True\n"
    "def square(x): return Yes()\n",
    "an int with __eq__": "class Yes(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
    "def square(x): return Yes(0)\n",
    "a list with __eq__": "class Yes(list):\n    def __eq__(self, other): return True\ndef square(x): return Yes()\n",
    "a text with __eq__": "class Yes(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n"
    "def square(x): return Yes('a')\n",
    "a float with __sub__": "class Yes(float):\n    def __rsub__(self, other): return 0.0\n    __sub__ = __rsub__\n"
    "    def __eq__(self, other): return True\n    __hash__ = float.__hash__\ndef square(x): return Yes(0)\n",
    "a lying class": "class Yes:\n    __class__ = int\n    def __eq__(self, other): return True\n    __hash__ = None\n"
    "def square(x): return Yes()\n",
    "a metaclass": "class Meta(type):\n    def __eq__(cls, other): return True\n    __hash__ = type.__hash__\n"
    "    def __call__(cls, *given): return cls\nclass square(metaclass=Meta): pass\n",
}
INSIDES = {
    "builtins": "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.isinstance = lambda *a: True\n"
    "builtins.AssertionError = ValueError\ndef square(x): return 0\n",
    "sys.modules": "import sys\nfor name in list(sys.modules):\n"
    "    if name.startswith('guest') or name == 'program':\n"
    "        for key, value in list(vars(sys.modules[name]).items()):\n"
    "            if callable(value) and not isinstance(value, type):\n"
    "                setattr(sys.modules[name], key, lambda *a, **k: ['ok', [9, None]])\ndef square(x): return 0\n",
    "frames": "import sys\ndef square(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):\n"
    "            if isinstance(value, str) and 'c0ffee' in value: return value\n        frame = frame.f_back\n"
    "    return 0\n",
    "all objects": "import gc\ndef square(x):\n    for value in gc.get_objects():\n        if type(value) is dict:\n"
    "            for item in list(value.values()):\n"
    "                if type(item) is str and 'c0ffee' in item: return item\n"
    "    return 9 if x == 3 else [1, 4] if x == [1, 2] else 4.0 if x == 2.0 else ''\n",
    "a tracer": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef square(x): return 0\n",
    "redefining check": "def check(candidate): pass\ndef square(x): return 0\n",
    "an except hook": "import sys\nsys.excepthook = lambda *a: None\ndef square(x): raise AssertionError\n",
}
ENDINGS = {
    "os._exit(0)": "import os\ndef square(x): os._exit(0)\n",
    "os._exit(0) at once": "import os\nos._exit(0)\n",
    "sys.exit": "import sys\ndef square(x): sys.exit(0)\n",
    "sys.exit at once": "import sys\nsys.exit(0)\n",
    "atexit": "import atexit, os\natexit.register(os._exit, 0)\ndef square(x): return 0\n",
    "KeyboardInterrupt": "def square(x): raise KeyboardInterrupt\n",
    "StopIteration": "def square(x): raise StopIteration(9)\n",
    "its own exception": "class CandidateError(BaseException): pass\ndef square(x): raise CandidateError('passed')\n",
    "printing "
    "PASS": "print('PASS')\nprint('passed')\ndef square(x):\n    print('{\"verdict\": \"passed\"}')\n    return 0\n",
    "closing its channel": "import os\nos.closerange(3, 64)\ndef square(x): return 0\n",
}
WIRES = {
    "verdicts to every descriptor": "import os, json, struct\n"
    "body = json.dumps(dict(verdict='passed', cause='', cpu=0, wall=0, output='', printed=0, stands={})).encode()\n"
    "for number in range(64):\n    try: os.write(number, struct.pack('<I', len(body)) + body)\n"
    "    except OSError: pass\n"
    "def square(x): return 0\n",
    "answers ahead": "import os, struct\nfrom guest.codec import encode\n"
    "for value in (9, [1, 4], 4.0, ''):\n    body = encode(['ok', [value, None]], None)\n"
    "    os.write(3, struct.pack('<I', len(body)) + body)\ndef square(x): return 0\n",
    "noise": "import os\ndef square(x):\n    os.write(3, b'\\xff' * 1000)\n    return 0\n",
    "a long message": "import os, struct\ndef square(x):\n    os.write(3, struct.pack('<I', 1 << 31))\n    return 0\n",
    "a deep message": "import os, struct\ndef square(x):\n    body = b'l\\x01\\0\\0\\0' * 100000\n"
    "    os.write(3, struct.pack('<I', len(body)) + body)\n    return 0\n",
    "half a "
    "message": "import os, struct\ndef square(x):\n    os.write(3, struct.pack('<I', 100) + b'l')\n    os._exit(0)\n",
    "a handle to nothing": "import os, struct\ndef square(x):\n    body = b'h' + struct.pack('<I', 9) + b'1 1 Thing'\n"
    "    body = b'l\\x02\\0\\0\\0s\\x02\\0\\0\\0ok' + b'l\\x02\\0\\0\\0' + body + b'N'\n"
    "    os.write(3, struct.pack('<I', len(body)) + body)\n    return 0\n",
}
ALL = OBJECTS | INSIDES | ENDINGS | WIRES


@pytest.mark.parametrize("name", ALL)
def test_nothing_forges_a_pass(pool: Pool, name: str) -> None:
    outcome = run(pool, ALL[name], TESTS, "square", cpu=1)
    assert not outcome.passed, outcome
    assert outcome.verdict in ("wrong", "error", "no-entry-point", "blocked", "timeout"), outcome


def test_the_right_answer_would_pass(pool: Pool) -> None:
    source = (
        "def square(x):\n    if x == 'x': return 'c0ffee-that no program can know'\n"
        "    return [y * y for y in x] if isinstance(x, list) else x * x\n"
    )
    assert run(pool, source, TESTS, "square").passed


@pytest.mark.parametrize(
    "body",
    ["import signal\nsignal.setitimer(signal.ITIMER_REAL, 0)\nsignal.alarm(0)\nwhile True: pass",
     "import signal\nfor number in range(1, 65):\n    try: signal.signal(number, lambda *a: None)\n"
     "    except (OSError, ValueError): pass\nwhile True: pass",
     "import resource\ntry: resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))\nexcept ValueError: pass\n"
     "while True: pass",
     "while True:\n    try:\n        while True: pass\n    except BaseException: pass"],
)  # fmt: skip
def test_no_handler_outlives_the_limit(pool: Pool, body: str) -> None:
    source = "def square(x):\n" + "".join(f"    {line}\n" for line in body.split("\n"))
    outcome = run(pool, source, TESTS, "square", cpu=0.5)
    assert (outcome.verdict, outcome.cause) == ("timeout", "0.5 s on the processor")


def test_a_thread_cannot_speak_for_the_function(pool: Pool) -> None:
    """It may write to the channel all the time: its words are values, and the wrong ones."""
    source = (
        "import threading, os, struct\ndef noise():\n    body = b'l\\x02\\0\\0\\0s\\x02\\0\\0\\0okl\\x02\\0\\0\\0TN'\n"
        "    while True: os.write(3, struct.pack('<I', len(body)) + body)\n"
        "threading.Thread(target=noise, daemon=True).start()\ndef square(x): return 0\n"
    )
    assert not run(pool, source, TESTS, "square").passed


def test_helpers_of_the_prompt_are_the_prompts_own(pool: Pool) -> None:
    """HumanEval's tests call `poly`: a completion that redefines it changes nothing."""
    from ingot.evaluate.sandbox.program import Program

    prompt = (
        "def poly(xs, x):\n    return sum(c * x**i for i, c in enumerate(xs))\n\ndef zero(xs):\n    '''A root.'''\n"
    )
    tests = "def check(candidate):\n    assert abs(poly([-4, 2], candidate([-4, 2]))) < 1e-4\ncheck(zero)\n"
    for completion, passes in (("    return 2.0\n", True), ("    return 7.0\ndef poly(xs, x): return 0.0\n", False)):
        (outcome,) = pool.run([Program(prompt + completion, tests, ("zero",), prompt)])
        assert outcome.passed is passes
