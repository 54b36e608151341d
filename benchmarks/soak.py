"""Does the server stay what it is under everything that clients do to it?

    python benchmarks/soak.py MODEL                                # 10,000 requests to `ingot serve MODEL`
    python benchmarks/soak.py MODEL --requests 300 --clients 8     # a look

A mix that the seed decides: whole and streamed answers, several at once, long prompts, tools, embeddings, token routes,
malformed bodies, deadlines that pass, clients that leave before, during and after an answer. When all is over nothing
may be left: no block of the cache held, nothing running, waiting or outstanding; nobody was told of a fault of the
server's own; what whole and streamed answers said they used is not more than the metrics counted; and the memory of the
process, measured after the first tenth and at the end, is reported. The last line is JSON; status 1 when a check fails.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

WARM = 0.1
"""Share of the requests after which memory is first measured."""
LEAVES = (0.0, 0.005, 0.02, 0.1)
"""Seconds after which an impatient client goes away."""
FAULTS = {"500", "502"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
MALFORMED = [
    b"", b"{", b"[]", b"null", b"\xff", b'{"model": 5}', b"[" * 5000, b'{"messages": [{"role": "user"}]}',
    b'{"model": "MODEL", "messages": "x"}', b'{"model": "MODEL", "prompt": [[-1]]}',
    b'{"model": "MODEL", "messages": [{"role": "user", "content": "x"}], "temperature": 99}',
    b'{"model": "MODEL", "messages": [{"role": "user", "content": "x"}], "nope": 1}',
]  # fmt: skip

Mix = Callable[["Soak", random.Random], Awaitable[str]]


class Soak:
    """The clients of one run, and what they saw."""

    def __init__(self, url: str, model: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=120, trust_env=False, limits=httpx.Limits())
        self.model = model
        self.used = 0
        self.seen: collections.Counter[str] = collections.Counter()

    def chat(self, chance: random.Random, **more: Any) -> dict[str, Any]:
        words = " ".join(chance.choices(("the", "cat", "sat", "天空", "hello", "dog"), k=chance.randint(1, 12)))
        messages = [{"role": "user", "content": words}]
        return {"model": self.model, "messages": messages, "max_tokens": chance.randint(1, 24), **more}

    async def post(self, path: str, body: dict[str, Any]) -> str:
        """Ask and wait for the whole answer."""
        response = await self.http.post(path, json=body)
        content = response.json()
        self.used += content.get("usage", {}).get("completion_tokens", 0)
        return str(response.status_code)

    async def stream(self, path: str, body: dict[str, Any], most: int | None = None) -> str:
        """Read a stream, or its first `most` lines and leave."""
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        async with self.http.stream("POST", path, json=body) as response:
            count, last = 0, ""
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    count, last = count + 1, line
                if most is not None and count >= most:
                    return "left"
            if response.status_code == 200 and "error" not in json.loads(last[6:]):
                self.used += json.loads(last[6:])["usage"]["completion_tokens"]
            return str(response.status_code)

    async def leave(self, path: str, body: dict[str, Any], seconds: float) -> str:
        """Ask and go away."""
        try:
            return await asyncio.wait_for(self.post(path, body), seconds)
        except TimeoutError:
            return "left"


CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


async def malformed(soak: Soak, chance: random.Random) -> str:
    content = chance.choice(MALFORMED).replace(b"MODEL", soak.model.encode())
    headers = {"content-type": "application/json"}
    response = await soak.http.post(chance.choice((CHAT, TEXT, "/v1/embeddings")), content=content, headers=headers)
    assert set(response.json()) == {"error"}
    return str(response.status_code)


async def tokens(soak: Soak, chance: random.Random) -> str:
    words = "the cat " * chance.randint(1, 50)
    found = await soak.http.post("/tokenize", json={"prompt": words})
    back = await soak.http.post("/detokenize", json={"tokens": found.json()["tokens"]})
    assert back.json()["prompt"].endswith(words)
    return str(back.status_code)


MIX: dict[str, tuple[int, Mix]] = {
    "whole": (20, lambda s, c: s.post(CHAT, s.chat(c))),
    "stream": (20, lambda s, c: s.stream(CHAT, s.chat(c))),
    "text": (8, lambda s, c: s.post(TEXT, {"model": s.model, "prompt": "the cat " * c.randint(1, 30), "logprobs": 2})),
    "several": (6, lambda s, c: s.post(CHAT, s.chat(c, n=c.randint(2, 4), seed=c.randint(0, 99)))),
    "long": (4, lambda s, c: s.post(TEXT, {"model": s.model, "prompt": "the dog ran " * 150, "max_tokens": 2})),
    "tools": (6, lambda s, c: s.post(CHAT, s.chat(c, tools=[TOOL], parallel_tool_calls=c.random() < 0.5))),
    "embeddings": (
        5,
        lambda s, c: s.post("/v1/embeddings", {"model": s.model, "input": ["the cat"] * c.randint(1, 9)}),
    ),
    "tokens": (3, tokens),
    "malformed": (10, malformed),
    "deadline": (4, lambda s, c: s.post(CHAT, s.chat(c, max_tokens=60, ignore_eos=True, deadline_ms=c.randint(1, 40)))),
    "leaves a stream": (8, lambda s, c: s.stream(CHAT, s.chat(c, ignore_eos=True, max_tokens=60), c.randint(1, 9))),
    "leaves": (6, lambda s, c: s.leave(CHAT, s.chat(c, ignore_eos=True, max_tokens=60), c.choice(LEAVES))),
}
"""Name -> weight, and one request."""


async def run(soak: Soak, requests: int, clients: int, seed: int, warm: Callable[[], None]) -> None:
    """All requests, `clients` at a time; `warm` is called after the first tenth."""
    names = random.Random(seed).choices(list(MIX), [weight for weight, _ in MIX.values()], k=requests)
    numbers = iter(range(requests))

    async def client() -> None:
        for number in numbers:
            if number == int(requests * WARM):
                warm()
            found = await MIX[names[number]][1](soak, random.Random(seed * 1_000_003 + number))
            soak.seen[f"{names[number]} {found}"] += 1

    await asyncio.gather(*(client() for _ in range(clients)))


async def left_over(soak: Soak) -> dict[str, float]:
    """What the server still holds once it had ten seconds to let go, and its counters."""
    for _ in range(100):
        lines = (await soak.http.get("/metrics")).text.splitlines()
        found = {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}
        if not any(found[f"ingot_{name}"] for name in HELD):
            break
        await asyncio.sleep(0.1)
    return found


HELD = ("running", "queue_depth", "outstanding_tokens", "kv_blocks_held")


def resident(process: int) -> int:
    """Bytes of memory that a process holds."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def judge(soak: Soak, found: dict[str, float]) -> list[str]:
    """What is wrong, in words."""
    wrong = [f"{name} is {found[f'ingot_{name}']:g}" for name in HELD if found[f"ingot_{name}"]]
    wrong += [f"{count} times {what}" for what, count in soak.seen.items() if what.split()[-1] in FAULTS]
    told = {key: value for key, value in found.items() if key.startswith("ingot_requests_total")}
    wrong += [f"{value:g} times {key}" for key, value in told.items() if 'status="500"' in key]
    counted = found['ingot_tokens_total{kind="completion"}']
    return wrong + ([f"usage adds up to {soak.used}, metrics to {counted:g}"] if soak.used > counted else [])


async def soak_server(url: str, name: str, process: int, options: argparse.Namespace) -> dict[str, Any]:
    soak, memory, began = Soak(url, name), [resident(process)], time.monotonic()
    await run(soak, options.requests, options.clients, options.seed, lambda: memory.append(resident(process)))
    found = await left_over(soak)
    memory.append(resident(process))
    await soak.http.aclose()
    return {
        "requests": options.requests,
        "seconds": round(time.monotonic() - began, 1),
        "seen": dict(sorted(soak.seen.items())),
        "completion_tokens_told": soak.used,
        "completion_tokens_counted": int(found['ingot_tokens_total{kind="completion"}']),
        "prefix_cache_hits": int(found["ingot_prefix_cache_hits_total"]),
        "kv_blocks": int(found["ingot_kv_blocks"]),
        "mib_start_warm_end": [round(size / 2**20, 1) for size in memory],
        "wrong": judge(soak, found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    command = [sys.executable, "-m", "ingot", "serve", str(options.model), "--port", "0", "--name", "soaked"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "INGOT_LANG": "en"}
    )
    assert process.stdout is not None
    url = ""
    for line in process.stdout:
        print(line, end="")
        if " at http" in line:
            url = line.split(" at ")[1].split("/v1")[0]
            break
    drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
    try:
        result = asyncio.run(soak_server(url, "soaked", process.pid, options))
        process.send_signal(signal.SIGTERM)
        result["exit_status"] = process.wait(60)
    finally:
        process.kill()
        drain.wait(10)
    print(json.dumps(result, ensure_ascii=False))
    raise SystemExit(bool(result["wrong"] or result["exit_status"]))


if __name__ == "__main__":
    main()
