"""Running programs behind walls against evalplus, which has none: the same verdicts first, then programs a second.

    python benchmarks/sandbox.py --data DIR --evalplus PYTHON [--samples 10] [--turns 3] [--programs 10000]
    # DIR: holds HumanEval.jsonl.gz; PYTHON: of an environment with evalplus

Each of HumanEval's own solutions runs `--samples` times, in turns with evalplus's `untrusted_check`, which is given the
arguments that the tests call with and the answers to expect (its way of testing). As many processes each as cores. What
counts is the time on the clock, fastest turn of each, and time on the processor beside it. Then `--programs` programs
of all kinds run in one pool, and what is left of processes, descriptors and files afterwards is counted.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import json
import os
import platform
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from ingot.evaluate.sandbox.pool import Pool
from ingot.evaluate.sandbox.problems import Problem, read_problems
from ingot.evaluate.sandbox.program import Program

PEER = """
import json, sys, time, resource, ast
from concurrent.futures import ProcessPoolExecutor
from evalplus.eval import untrusted_check
def one(job):
    return untrusted_check("humaneval", job["code"], ast.literal_eval(job["inputs"]), job["entry"],
                           ast.literal_eval(job["expected"]), 0, [0.01] * job["count"], fast_check=True)[0]
if __name__ == "__main__":
    jobs = json.load(open(sys.argv[1])) * int(sys.argv[2])
    with ProcessPoolExecutor(int(sys.argv[3])) as pool:
        list(pool.map(one, jobs[:4]))
        begin = time.perf_counter()
        found = list(pool.map(one, jobs))
        took = time.perf_counter() - begin
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"seconds": took, "cpu": used.ru_utime + used.ru_stime, "passed": found.count("pass")}))
"""
MIXED = (
    "def f(): return 1", "def f(): return 2", "def f(: return", "import os\nos._exit(1)", "import os\nos.fork()",
    "def f(): return bytearray(10 << 30)", "open('x', 'w').write('x' * 10000)\ndef f(): return 1",
    "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\ndef f(): return 1",
)  # fmt: skip


def calls_of(problem: Problem) -> dict[str, Any] | None:
    """The arguments that the tests call with and what the solution answers; None where they are no literals."""
    space: dict[str, Any] = {}
    exec(problem.before + problem.reference, space)
    function, calls = space[problem.entries[0]], []

    def noted(*given: Any) -> Any:
        begun = repr(list(given))
        answer = function(*given)
        calls.append((begun, repr(answer)))
        return answer

    space[problem.entries[0]] = noted
    exec(problem.tests, space)
    inputs, expected = (f"[{', '.join(parts)}]" for parts in zip(*calls, strict=True))
    try:
        ast.literal_eval(inputs), ast.literal_eval(expected)
    except ValueError:
        return None
    return {"code": problem.before + problem.reference, "entry": problem.entries[0], "inputs": inputs,
            "expected": expected, "count": len(calls)}  # fmt: skip


def ours(pool: Pool, programs: list[Program]) -> dict[str, Any]:
    began = time.perf_counter()
    outcomes = list(pool.run(programs))
    took = time.perf_counter() - began
    return {"seconds": took, "passed": sum(outcome.passed for outcome in outcomes)}


def left() -> dict[str, int]:
    """What a run could leave: children (ended ones that nobody buried, too), descriptors, files."""
    own = 0
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                own += f"PPid:\t{os.getpid()}\n" in (path / "status").read_text()
            except OSError:
                continue
    temporary = len(list(Path(tempfile.gettempdir()).glob("ingot-sandbox-*")))
    return {"processes": own, "descriptors": len(os.listdir("/proc/self/fd")), "temporary": temporary,
            "shared": len(os.listdir("/dev/shm"))}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--evalplus", required=True)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = [(problem, calls_of(problem)) for problem in read_problems("humaneval", options.data)]
    both = [(problem, calls) for problem, calls in found if calls is not None]
    programs = [problem.program(problem.reference) for problem, _ in both] * options.samples
    cores, turns = len(os.sched_getaffinity(0)), []
    with tempfile.TemporaryDirectory() as folder:
        script, jobs = Path(folder) / "peer.py", Path(folder) / "jobs.json"
        script.write_text(PEER)
        jobs.write_text(json.dumps([calls for _, calls in both]))
        for _ in range(options.turns):
            began = resource.getrusage(resource.RUSAGE_CHILDREN)
            with Pool() as pool:
                own = ours(pool, programs)
                level = pool.protection.level
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            own["cpu"] = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
            command = [options.evalplus, str(script), str(jobs), str(options.samples), str(cores)]
            peer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            turns.append({"ingot": own, "evalplus": peer})
            print(json.dumps(turns[-1]))
    before = left()
    with Pool() as pool:
        kinds = [Program(MIXED[n % len(MIXED)], "assert f() == 1", ("f",)) for n in range(options.programs)]
        mixed = ours(pool, kinds)
    result = {
        "date": str(datetime.date.today()), "machine": platform.processor() or platform.machine(), "cores": cores,
        "level": level, "programs": len(programs), "turns": turns, "soak": {"programs": options.programs, **mixed},
        "left": {name: count - before[name] for name, count in left().items()},
    }  # fmt: skip
    for name in ("ingot", "evalplus"):
        result[name] = {"per_second": len(programs) / min(turn[name]["seconds"] for turn in turns),
                        "cpu_ms": 1000 * min(turn[name]["cpu"] for turn in turns) / len(programs)}  # fmt: skip
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
