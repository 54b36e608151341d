"""Several processes train as one: equal losses, equal weights, and a run goes on with another number of processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run as run_processes
from processes import start

from ingot.adapt.load import load
from tiny import write_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer and forty short documents under a known licence."""
    path = tmp_path_factory.mktemp("distributed")
    write_tokenizer(path / "tok")
    (path / "data").mkdir()
    lines = [{"text": f"the cat number {n} sat on the mat. " * (1 + n % 3), "licence": "CC0-1.0"} for n in range(40)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "data" / "corpus.jsonl").write_text(text)
    return path


def command(folder: Path, out: Path, processes: int, *options: str) -> list[str]:
    words = ["pretrain", str(folder / "data" / "corpus.jsonl"), "--tokenizer", str(folder / "tok"), "--out", str(out),
             "--depth", "2", "--length", "32", "--batch-tokens", "256", "--max-steps", "40",
             "--loop.compile", "off", "--loop.precision", "fp32",
             "--corpus.heldout", "0.2", "--seed", "3", *options]  # fmt: skip
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    return [*start, "ingot", *words]


def run(folder: Path, out: Path, processes: int, *options: str) -> list[dict[str, Any]]:
    """Train; the lines of the log."""
    done = subprocess.run(command(folder, out, processes, *options), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('"parameters"') == 1, "only the first process speaks"
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[dict[str, Any]]:
    return run(folder, folder / "alone", 1)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "tp"])
def test_two_processes_train_as_one(folder: Path, alone: list[dict[str, Any]], strategy: str) -> None:
    out = folder / strategy
    together = run(folder, out, 2, "--loop.parallel", strategy)
    for one, two in zip(alone, together, strict=True):
        assert abs(one["loss"] - two["loss"]) < 2e-5
        assert abs(one["norm"] - two["norm"]) < 1e-4 * one["norm"]
        assert one["targets"] == two["targets"]
    single, double = (load(path).network.state_dict() for path in (folder / "alone", out))
    assert single.keys() == double.keys()
    assert all(torch.allclose(single[name], double[name], atol=2e-4) for name in single)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(
    folder: Path, alone: list[dict[str, Any]], before: int, after: int
) -> None:
    """Killed once a checkpoint lies there; the losses that follow are those of the run that was never stopped."""
    out = folder / f"from-{before}"
    parallel = ("--loop.parallel", "fsdp")
    words = command(folder, out, before, *(parallel if before > 1 else ()))
    with subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until = time.monotonic() + 200
        while not list((folder / f".{out.name}.training").glob("step-*/state.json")):
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        os.killpg(child.pid, signal.SIGKILL)
        subprocess.run(
            ["pkill", "-9", "-f", str(out)], check=False
        )  # torchrun gives its processes sessions of their own
    resumed = run(folder, out, after, "--resume", *(parallel if after > 1 else ()))
    assert [line["step"] for line in resumed] == [line["step"] for line in alone]
    assert all(abs(a["loss"] - b["loss"]) < 2e-5 for a, b in zip(resumed, alone, strict=True))


@pytest.mark.parametrize(
    ("processes", "options", "code"),
    [
        (1, ("--loop.parallel", "fsdp"), "parallel-alone"),
        (2, ("--loop.parallel", "tp", "--family", "gpt2"), "tensor-parallel-unsupported"),
        (1, ("--launch", "cloud"), "bad-launch"),
    ],
)
def test_refused_by_name(folder: Path, processes: int, options: tuple[str, ...], code: str) -> None:
    out = folder / f"refused-{code}"
    done = subprocess.run(command(folder, out, processes, *options), capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert done.stderr.count(f"[{code}]") == 1, "one process tells the user"
    assert not list(folder.glob(f"*{out.name}*"))


def test_refused_data_is_told_of_once_and_leaves_nothing(folder: Path) -> None:
    data, out = folder / "data" / "latin.txt", folder / "refused-data"
    data.write_bytes("caf\xe9".encode("latin-1"))
    words = [str(data) if word.endswith("corpus.jsonl") else word for word in command(folder, out, 2)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert done.stderr.count("[not-utf8]") == 1
    assert not list(folder.glob(f"*{out.name}*"))


def test_a_corpus_is_packed_once_on_each_machine(tmp_path: Path) -> None:
    """Three processes on two machines. Where one refuses or crashes, all end, and one tells the user."""
    found = start(3, "packing", tmp_path)
    assert found["machines"] == 2
    assert found["leaders"] == [0, 2]
    differ, refused, crashed = zip(*found["ends"], strict=True)
    assert set(differ) == {"rows-differ {'machines': 2} told"}
    assert refused == (*["empty-corpus {'path': 'x'} heard of"] * 2, "empty-corpus {'path': 'x'} told")
    assert crashed == (*["SystemExit(1)"] * 2, "OSError('lost')")
    assert sorted(path.name for path in (tmp_path / "good").iterdir()) == ["rows-0", "rows-1"]
    assert not (tmp_path / "bad-0").exists()
    assert not (tmp_path / "bad-1").exists()


def test_the_others_end_when_the_one_that_packs_is_killed(tmp_path: Path) -> None:
    done = run_processes(2, "dying", tmp_path)
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr


@pytest.mark.peers
def test_a_ray_cluster_trains_the_same(folder: Path, alone: list[dict[str, Any]]) -> None:
    pytest.importorskip("ray")
    found = run(folder, folder / "ray", 1, "--launch", "ray:2")
    assert all(abs(a["loss"] - b["loss"]) < 2e-5 for a, b in zip(found, alone, strict=True))
