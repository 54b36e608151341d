"""A server's life: listen, load, serve, drain, stop.

The first SIGTERM or Ctrl-C drains: /ready answers 503, new work is refused, running requests may finish for
`drain_seconds`. The second, or the end of that time, aborts what still runs, each with an error its client sees. An
engine that keeps failing ends the server with an error, so that a supervisor can start a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError, fail
from ingot.core.progress import say, warn
from ingot.guard.guard import Guard
from ingot.infer.engine import Engine
from ingot.infer.opened import open_model
from ingot.infer.prompts import temperature_of, warn_of_settings
from ingot.infer.reader import Reader
from ingot.serve.app import Api
from ingot.serve.gate import Keys
from ingot.serve.metrics import Metrics
from ingot.serve.prepare import Adapters, Embedder, Served
from ingot.serve.probe import Probe, ask
from ingot.serve.protocol import Protocol
from ingot.serve.serve import ServeOptions
from ingot.serve.worker import Worker

BACKLOG = 1024
ABORT_SECONDS = 3.0
"""How long error events may take to reach clients when their requests are aborted."""


@dataclass(frozen=True)
class Session:
    """What a server did: the outcome of the verb."""

    url: str
    name: str
    requests: int
    tokens: int
    seconds: float
    probe: Probe | None = None

    def summary(self) -> dict[str, Any]:
        own = {"url": self.url, "name": self.name, "requests": self.requests, "tokens": self.tokens}
        seconds = {"seconds": round(self.seconds, 3)}
        return own | (self.probe.summary() if self.probe else {}) | seconds


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket. Raises `serve-port-taken` or `serve-cannot-listen`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise fail("serve-port-taken", host=host, port=port) from None
        raise fail("serve-cannot-listen", host=host, port=port, reason=error.strerror or str(error)) from None
    with listener:
        yield listener


def run(options: ServeOptions, listener: socket.socket) -> Session:
    """Load and serve until stopped."""
    keys = Keys.read(options.api_key_file) if options.api_key_file else None
    guard = None if options.policy == "off" else Guard.open(options.policy)
    metrics = Metrics()
    named = _named_adapters(options.adapter)
    model = open_model("+".join([options.model, *named.values()]), options.place, options.weights)
    acting, by_name = _choices(model, list(named))
    warn_of_settings(model)
    reader = Reader.of(model)
    reader.text(model.tokenizer, "")  # raises now, not at each request, where the tokenizer cannot end a source
    engine = Engine(model, options.slots, memory=options.cache, speculation=options.speculation)
    assert engine.constraints is not None
    with contextlib.suppress(IngotError):  # what holds to no form refuses those requests
        engine.constraints.trie  # noqa: B018  (made now: with a large vocabulary it would stop all answers for a second)
    served = Served(
        name=options.name or "+".join(parent.name for parent in model.parents[: len(model.parents) - len(named)]),
        tokenizer=model.tokenizer,
        reader=reader,
        embedder=Embedder.of(model),
        constraints=engine.constraints,
        guard=guard,
        fingerprint=_fingerprint([parent.hallmark for parent in model.parents]),
        created=int(time.time()),
        temperature=temperature_of(model, None, Served.temperature),
        acting=acting,
        by_name=by_name,
    )
    limits = options.limits
    worker = Worker(engine, options.slots, limits.queue, metrics, limits.queue_tokens, model.check)
    api = Api(served, worker, metrics, limits, keys)
    server = Server(api, listener, limits.drain_seconds)
    if keys is None and not _is_loopback(listener):
        warn("serve-open-to-all", host=options.host)
    if options.probe is None:
        say("serve-ready", url=server.url, name=served.name, slots=options.slots, policy=options.policy)
    question = None if options.probe is None else _question(options, served, keys, server.url)
    return asyncio.run(server.run(question))


def _named_adapters(given: list[str]) -> dict[str, str]:
    """NAME=DIR, as names and directories. Raises `serve-adapter`."""
    found: dict[str, str] = {}
    for each in given:
        name, _, path = each.partition("=")
        if not name or not path or name in found:
            raise fail("serve-adapter", found=each)
        found[name] = path
    return found


def _choices(model: LanguageModel, names: list[str]) -> tuple[Adapters, dict[str, Adapters]]:
    """What acts on requests for the model itself, and for each named adapter: that one beside it. Raises
    `adapter-rows` for adapters that cannot act on some requests alone."""
    if not names:
        return None, {}
    every = model.active.chosen(model.active.names)
    acting, others = every[: -len(names)], every[-len(names) :]
    return acting, {name: (*acting, own) for name, own in zip(names, others, strict=True)}


@dataclass(frozen=True)
class Question:
    """What --probe asks, and how to reach the server."""

    url: str
    model: str
    prompt: str
    max_tokens: int
    chat: bool
    key: str | None


def _question(options: ServeOptions, served: Served, keys: Keys | None, url: str) -> Question:
    assert options.probe is not None
    chat = served.tokenizer.chat_template is not None
    return Question(url, served.name, options.probe, options.probe_tokens, chat, keys.issue() if keys else None)


class Server:
    """One listening socket, one engine thread, one event loop."""

    def __init__(self, api: Api, listener: socket.socket, drain_seconds: float) -> None:
        self.api = api
        self.listener = listener
        self.drain_seconds = drain_seconds
        self.url = _url(listener)
        self.ready = threading.Event()
        self._abort = asyncio.Event()
        self._drain: asyncio.Task[None] | None = None
        config = uvicorn.Config(
            api.gate, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            proxy_headers=False, backlog=BACKLOG, timeout_graceful_shutdown=int(ABORT_SECONDS),
        )  # fmt: skip
        self._http = _Http(config)

    async def run(self, question: Question | None = None) -> Session:
        """Serve until stopped, or until the question is answered. Raises `serve-engine-died`,
        `rank-lost`, `serve-probe-failed`."""
        began = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self.api.worker.on_failure = self.stop
        self.api.worker.start()
        serving = asyncio.create_task(self._http.serve(sockets=[self.listener]))
        with self._signals():
            self.ready.set()
            probe = await self._ask(question) if question else None
            await serving
        await self.api.worker.stop()
        if self.api.worker.failure is not None:
            self.api.worker.check()  # raises what says more, where there is something
            raise fail("serve-engine-died", place=self.api.worker.failure)
        metrics = self.api.metrics
        return Session(
            self.url, self.api.served.name, metrics.total(metrics.requests), metrics.total(metrics.tokens),
            time.monotonic() - began, probe,
        )  # fmt: skip

    def stop(self) -> None:
        """Begin to drain; when it drains already, abort. For the event loop's thread."""
        if self._drain is None:
            self.api.gate.draining = True
            self._drain = asyncio.ensure_future(self._finish())
        else:
            self._abort.set()

    def stop_soon(self) -> None:
        """`stop` from any thread."""
        self._loop.call_soon_threadsafe(self.stop)

    async def _ask(self, question: Question) -> Probe:
        try:
            return await asyncio.to_thread(
                ask, question.url, question.model, question.prompt,
                max_tokens=question.max_tokens, chat=question.chat, key=question.key,
            )  # fmt: skip
        finally:
            self.stop()

    async def _finish(self) -> None:
        if not await self._idle(self.drain_seconds):
            warn("serve-aborting", count=self.api.gate.active)
            self.api.worker.abort()
            self._abort.clear()
            await self._idle(ABORT_SECONDS)
        self._http.should_exit = True

    async def _idle(self, seconds: float) -> bool:
        """Wait until no request is active (True), the time is over, or someone asks to abort."""
        end = time.monotonic() + seconds
        while self.api.gate.active and self.api.worker.failure is None:
            if time.monotonic() >= end or self._abort.is_set():
                return False
            await asyncio.sleep(0.02)
        return True

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals reach only a main thread; elsewhere the owner calls `stop_soon`."""
        handled = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        for number in handled:
            self._loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in handled:
                self._loop.remove_signal_handler(number)


class _Http(uvicorn.Server):
    """uvicorn without its own signal handlers, which would stop listening before anything was drained."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def _fingerprint(hallmarks: list[Any]) -> str | None:
    """OpenAI's system_fingerprint: which weights answered. None for directories without a hallmark."""
    if not hallmarks or any(hallmark is None for hallmark in hallmarks):
        return None
    return "fp_" + "_".join(hallmark.digest[:12] for hallmark in hallmarks)
