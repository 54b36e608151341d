"""A server in a thread for tests, over the real engine or over one whose answers and pace the test decides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as List
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ingot.adapt.generation import Generation
from ingot.adapt.load import LanguageModel
from ingot.infer.answer import AnswerDecoder
from ingot.infer.constraint.compile import Constraints
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt, Reader, Start
from ingot.infer.scheduler import Counters
from ingot.infer.sequence import Event, Sequence, TokenLogprobs
from ingot.serve.app import Api
from ingot.serve.gate import Keys
from ingot.serve.limits import LimitOptions
from ingot.serve.metrics import Metrics
from ingot.serve.prepare import Adapters, Embedder, Served
from ingot.serve.server import Server, listen
from ingot.serve.worker import Stepper, Worker
from ingot.text.tokenizer import Tokenizer
from tiny import write_tokenizer

HELLO = [{"role": "user", "content": "hello"}]
FAMILIES = Path(__file__).parents[1] / "text" / "families"
ROOM = {"max_length": 4000}
"""What a conversation with tools needs."""


def tokenizer_of(path: Path, template: str, special: List[str] = ()) -> Tokenizer:
    """The tiny tokenizer, with `special` tokens besides and the chat template of a family of models."""
    write_tokenizer(path, special)
    (path / "chat_template.jinja").write_text((FAMILIES / f"{template}.jinja").read_text(encoding="utf-8"))
    return Tokenizer.open(path)


class ScriptedEngine:
    """Says `script` to everyone, one token a step. With `paced`, each step waits for one `allow()`."""

    def __init__(self, tokenizer: Tokenizer, script: str = "the cat sat", paced: bool = False) -> None:
        self.tokenizer = tokenizer
        assert tokenizer.eos_id is not None
        self.script = [*tokenizer.encode(script), tokenizer.eos_id]
        self.running: list[Sequence] = []
        self.prompts: list[list[int]] = []
        self.samplings: list[Sampling] = []
        self.salts: list[str] = []
        self.counters = Counters()
        self.most_running = 0
        self.fail_next = 0
        self._paced = paced
        self._allowed = threading.Semaphore(0)

    def allow(self, steps: int = 1_000_000) -> None:
        self._allowed.release(steps)

    @property
    def has_work(self) -> bool:
        return bool(self.running)

    num_blocks, num_free_blocks = 8, 8

    def submit(self, prompt: Prompt, sampling: Sampling, salt: str = "", adapters: Adapters = None) -> Sequence:
        limit = sampling.max_tokens or 1000
        ends, decoder = Generation(frozenset({self.script[-1]})), AnswerDecoder(self.tokenizer, prompt.ids)
        sequence = Sequence(len(self.prompts), Start(prompt.ids, prompt.ids), sampling, ends, limit, decoder)
        self.prompts.append(prompt.ids)
        self.samplings.append(sampling)
        self.salts.append(salt)
        self.running.append(sequence)
        self.most_running = max(self.most_running, len(self.running))
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        self.running.remove(sequence)

    def step(self) -> list[Event]:
        if self._paced and not self._allowed.acquire(timeout=0.02):
            return []
        if self.fail_next:
            self.fail_next -= 1
            self.running.clear()
            raise RuntimeError("secret words of a prompt")
        events = [self._advance(sequence) for sequence in self.running]
        self.running = [event.sequence for event in events if event.finish_reason is None]
        return events

    def _advance(self, sequence: Sequence) -> Event:
        token = self.script[len(sequence.tokens) % len(self.script)]
        entry = None
        if sequence.sampling.logprobs is not None:
            others = tuple((other, -1.0 - other) for other in range(sequence.sampling.logprobs))
            entry = TokenLogprobs(token, -0.5, others)
        return sequence.accept(token, entry, 1.0)


@dataclass
class Running:
    """A server that takes requests, and what is inside it."""

    url: str
    api: Api
    server: Server
    worker: Worker
    thread: threading.Thread
    ended: list[Any]

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, verify=False)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        with self.client as client:
            return client.post(path, json=body, **more)

    def chat(self, **body: Any) -> httpx.Response:
        return self.post("/v1/chat/completions", {"model": "tiny", "messages": HELLO, **body})

    def complete(self, **body: Any) -> httpx.Response:
        return self.post("/v1/completions", {"model": "tiny", "prompt": "the cat", **body})

    def metric(self, name: str, **labels: str) -> float:
        return self.api.metrics.registry.get_sample_value(name, labels) or 0.0

    def idle(self) -> bool:
        """No slot is held, nothing waits, nothing is counted."""
        return not (self.worker.outstanding or self.worker.jobs) and not (
            self.metric("ingot_running") or self.metric("ingot_queue_depth")
        )


@contextlib.contextmanager
def running(
    engine: Stepper, tokenizer: Tokenizer, *, slots: int = 2, waiting: int = 2, guard: Any = None,
    max_length: int = 128, vocab_size: int | None = None, max_body: int = 100_000, timeout: float = 30.0,
    drain: float = 5.0, keys: Keys | None = None, reader: Reader | None = None, limits: dict[str, Any] | None = None,
    model: LanguageModel | None = None, check: Callable[[], None] = lambda: None,
) -> Iterator[Running]:  # fmt: skip
    """A server named "tiny" on a free port; stopped when the block ends."""
    metrics = Metrics()
    reader = reader or Reader(vocab_size or tokenizer.vocab_size, max_length)
    embedder = Embedder(lambda text: reader.text(tokenizer, text).ids, _fake_vectors, 4)
    forms = Constraints(tokenizer)
    served = Served("tiny", tokenizer, reader, Embedder.of(model) if model else embedder, forms, guard, "fp_test", 1)
    allowed = LimitOptions(**{"max_body": max_body, "request_timeout": timeout, **(limits or {})})
    worker = Worker(engine, slots, waiting, metrics, allowed.queue_tokens, check)
    api = Api(served, worker, metrics, allowed, keys)
    ended: list[Any] = []
    with listen("127.0.0.1", 0) as listener:
        server = Server(api, listener, drain)

        def run() -> None:
            try:
                ended.append(asyncio.run(server.run()))
            except Exception as error:
                ended.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        server.ready.wait(10)
        try:
            yield Running(server.url, api, server, worker, thread, ended)
        finally:
            if thread.is_alive():
                server.stop_soon()
            thread.join(20)
            assert not thread.is_alive()


def _fake_vectors(rows: List[List[int]], normalize: bool, adapters: Adapters) -> Iterator[tuple[list[int], Any]]:
    """The first id, the length, and whether it was to have length 1."""
    for place, row in enumerate(rows):
        yield [place], [[float(row[0]), float(len(row)), float(normalize), 0.5]]


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def events(text: str) -> list[str]:
    """The data of each server-sent event."""
    assert text.endswith("\n\n")
    lines = text[:-2].split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]


def open_request(server: Running, body: dict[str, Any]) -> socket.socket:
    """Send a request and leave the connection open."""
    content = json.dumps({"model": "tiny", "messages": HELLO, **body}).encode()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(server.server.listener.getsockname()[:2])
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"  # noqa: E501
    raw.sendall(f"{head}\r\n\r\n".encode() + content)
    return raw


def in_background(call: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[httpx.Response]]:
    found: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    return thread, found
