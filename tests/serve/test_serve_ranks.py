"""A server whose model is split over processes: the same answers, and an end when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import ScriptedEngine, running, until

from ingot.adapt.load import load
from ingot.core.errors import fail
from ingot.infer.engine import generate
from ingot.infer.options import Sampling
from ingot.text.tokenizer import Tokenizer
from tiny import children, write_model

PROMISED = 5.0
"""Seconds within which requests fail."""


def test_an_engine_that_lost_something_ends_the_server(tokenizer_dir: Path) -> None:
    gone = list[int]()

    def check() -> None:
        if gone:
            raise fail("rank-lost", rank=1, size=2, how="signal 9")

    tokenizer = Tokenizer.open(tokenizer_dir)
    with running(ScriptedEngine(tokenizer), tokenizer, check=check) as server:
        assert server.complete(max_tokens=3).status_code == 200
        gone.append(1)
        until(lambda: not server.thread.is_alive())
    assert server.ended[0].code == "rank-lost"


@pytest.fixture
def server(tmp_path: Path, tokenizer_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    path = write_model(tmp_path / "tiny", tokenizer=tokenizer_dir, max_position_embeddings=100_000)
    command = [sys.executable, "-m", "ingot.cli", "serve", str(path), "--port", "0", "--place", "2xcpu",
               "--cache.gib", "1"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "INGOT_LANG": "en"}
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " at http://127.0.0.1:" in line, line
    yield process, line.split(" at ")[1].split("/v1")[0], path
    process.kill()
    process.wait()
    process.stdout.close()


def body(**more: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "the cat", "temperature": 0, "ignore_eos": True, **more}


@pytest.mark.slow
def test_a_killed_process_fails_requests_and_ends_the_server(server: tuple[subprocess.Popen[str], str, Path]) -> None:
    process, url, path = server
    (wanted,) = generate(load(path), ["the cat"], Sampling(temperature=0, max_tokens=20, ignore_eos=True))
    answer = httpx.post(f"{url}/v1/completions", json=body(max_tokens=20), timeout=30).json()
    assert answer["choices"][0]["text"] == wanted.text
    with httpx.stream(
        "POST", f"{url}/v1/completions", json=body(max_tokens=50_000, stream=True), timeout=PROMISED
    ) as stream:
        lines = stream.iter_lines()
        next(lines)
        (other,) = children(process.pid)
        os.kill(other, signal.SIGKILL)
        last = [line for line in lines if line][-1]
    assert "error" in json.loads(last.removeprefix("data: "))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "process 1 of the 2" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_process_killed_while_nobody_asks_ends_the_server(server: tuple[subprocess.Popen[str], str, Path]) -> None:
    process, _, _ = server
    (other,) = children(process.pid)
    os.kill(other, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "process 1 of the 2" in output


@pytest.mark.slow
def test_signals_end_all_processes(server: tuple[subprocess.Popen[str], str, Path]) -> None:
    process, url, _ = server
    (other,) = children(process.pid)
    until(lambda: httpx.get(f"{url}/ready").status_code == 200, 30)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert not Path(f"/proc/{other}").exists()
