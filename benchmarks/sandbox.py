"""Running programs behind walls against evalplus, which has none; then proof that they pass, and that nothing is left.

    python benchmarks/sandbox.py --data DIR --evalplus PYTHON [--samples 10] [--turns 3] [--rounds 3] [--programs 10000]
    # DIR: holds humaneval/HumanEval.jsonl.gz and mbpp/mbpp.jsonl; PYTHON: of an environment with evalplus

Each of HumanEval's own solutions runs `--samples` times, in turns with evalplus's `untrusted_check`, which is given the
arguments that the tests call with and the answers to expect (its way of testing). As many processes each as cores. What
counts is the time on the processor, best turn of each, and programs a second beside it. Then the solutions of HumanEval
and all of MBPP run `--rounds` times with every core busy besides. Then `--programs` programs of all kinds run in one
pool, and what workers hold meanwhile and what is left of processes, descriptors and files afterwards is counted.
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
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ingot.data.files import read_records
from ingot.evaluate.sandbox.pool import Pool
from ingot.evaluate.sandbox.problems import Problem, mbpp_problem, read_problems
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
VERSION = "from importlib.metadata import version; print(version('evalplus'))"
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


def own_solutions(data: Path, rounds: int) -> dict[str, Any]:
    """HumanEval's and all of MBPP's, every core busy besides: how many passed in each round."""
    path = data / "mbpp" / "mbpp.jsonl"
    sets = {"humaneval": read_problems("humaneval", data),
            "mbpp": [mbpp_problem(path, line, record) for line, record in read_records(path)]}  # fmt: skip
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        with Pool() as pool:
            found = {name: [ours(pool, [problem.program(problem.reference) for problem in problems])["passed"]
                            for _ in range(rounds)] for name, problems in sets.items()}  # fmt: skip
    finally:
        for one in busy:
            one.kill()
            one.wait()
    return {name: {"problems": len(problems), "passed": found[name]} for name, problems in sets.items()}


def soak(count: int) -> dict[str, Any]:
    """So many programs of all kinds in one pool. What a worker held open after a tenth and at the end, and what is left
    of processes (ended ones that nobody buried, too), descriptors and files once the pool is closed."""
    programs = [Program(MIXED[n % len(MIXED)], "assert f() == 1", ("f",)) for n in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        before = left(folder)
        with Pool() as pool:
            first, early = ours(pool, programs[: count // 10]), inside(folder)
            rest, late = ours(pool, programs[count // 10 :]), inside(folder)
        tempfile.tempdir = None
        after = left(folder)
    total = {name: first[name] + rest[name] for name in first}
    return {"programs": count, **total,
            "workers_after_a_tenth": early, "workers_at_the_end": late,
            "left": {name: after[name] - before[name] for name in before}}  # fmt: skip


def inside(folder: str) -> dict[str, int]:
    """Of all processes of all workers: how many, their descriptors, and KiB of memory."""
    found = [path for path in Path("/proc").iterdir() if path.name.isdigit() and folder in _read(path / "cmdline")]
    memory = [line.split()[1] for path in found for line in _read(path / "status").splitlines() if "VmRSS" in line]
    return {"processes": len(found), "descriptors": sum(len(os.listdir(path / "fd")) for path in found),
            "kib": sum(map(int, memory))}  # fmt: skip


def left(folder: str) -> dict[str, int]:
    statuses = [_read(path / "status") for path in Path("/proc").iterdir() if path.name.isdigit()]
    children = sum(f"PPid:\t{os.getpid()}\n" in status for status in statuses)
    return {"children": children, "processes": inside(folder)["processes"],
            "descriptors": len(os.listdir("/proc/self/fd")), "temporary": len(os.listdir(folder)),
            "shared": len(os.listdir("/dev/shm"))}  # fmt: skip


def _read(path: Path) -> str:
    """Nothing of a process that has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def turn(programs: list[Program], command: list[str]) -> dict[str, Any]:
    """Both, one after the other. Our time on the processor has the workers' start in it."""
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Pool() as pool:
        own = ours(pool, programs)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    own["cpu"] = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    both = {"ingot": own, "evalplus": json.loads(found)}
    print(json.dumps(both))
    return both


def against_evalplus(python: str, data: Path, samples: int, turns: int) -> dict[str, Any]:
    found = [(problem, calls_of(problem)) for problem in read_problems("humaneval", data)]
    both = [(problem, calls) for problem, calls in found if calls is not None]
    programs = [problem.program(problem.reference) for problem, _ in both] * samples
    with tempfile.TemporaryDirectory() as folder:
        script, jobs = Path(folder) / "peer.py", Path(folder) / "jobs.json"
        script.write_text(PEER)
        jobs.write_text(json.dumps([calls for _, calls in both]))
        command = [python, str(script), str(jobs), str(samples), str(len(os.sched_getaffinity(0)))]
        taken = [turn(programs, command) for _ in range(turns)]
    best = {name: {"per_second": len(programs) / min(one[name]["seconds"] for one in taken),
                   "cpu_ms": 1000 * min(one[name]["cpu"] for one in taken) / len(programs)}
            for name in ("ingot", "evalplus")}  # fmt: skip
    return {"programs": len(programs), "turns": taken, **best}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--evalplus", required=True)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with Pool() as pool:
        level, standing = pool.protection.level, pool.protection.standing
    versions = {"python": platform.python_version(), "kernel": platform.release(),
                "evalplus": subprocess.run([options.evalplus, "-c", VERSION], check=True, capture_output=True,
                                           text=True).stdout.strip()}  # fmt: skip
    result = {
        "date": str(datetime.date.today()), "hardware": hardware(), "cores": len(os.sched_getaffinity(0)),
        "versions": versions, "level": level, "standing": standing,
        "speed": against_evalplus(options.evalplus, options.data, options.samples, options.turns),
        "own_solutions_under_load": own_solutions(options.data, options.rounds),
        "soak": soak(options.programs),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def hardware() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


if __name__ == "__main__":
    main()
