"""What the server counts, in Prometheus' format, in a registry of its own (two servers in one process stay apart).

Times are taken where the client would see them: from the arrival of the request to the moment a piece of the answer
is handed to the HTTP layer. Gauges read the worker when they are asked, so they cannot drift from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONG_SECONDS = (*SECONDS, 120.0, 300.0, 600.0)
GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class _Own(TypedDict):
    """What all metrics of one server share."""

    namespace: str
    registry: CollectorRegistry


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: _Own = {"namespace": "ingot", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered, by route and HTTP status", ["route", "status"], **own)
        self.errors = Counter("errors", "Errors that clients were told, by code", ["code"], **own)
        self.tokens = Counter("tokens", "Tokens, by kind: prompt, cached (of the prompts), completion, embedding",
                              ["kind"], **own)  # fmt: skip
        self.finished = Counter("finished", "Sequences that ended, by the engine's reason", ["reason"], **own)
        self.cancelled = Counter("cancelled", "Sequences stopped before their end, by reason", ["reason"], **own)
        self.queue = Histogram("queue_seconds", "From a request's arrival to its first slot", buckets=SECONDS, **own)
        self.first_token = Histogram(
            "time_to_first_token_seconds", "From a request's arrival to its first token", buckets=SECONDS, **own
        )
        self.gap = Histogram("inter_token_seconds", "Between two tokens of one sequence", buckets=GAP_SECONDS, **own)
        self.whole = Histogram("request_seconds", "From a request's arrival to its end", buckets=LONG_SECONDS, **own)
        self._waiting = Gauge("queue_depth", "Sequences waiting for a slot", **own)
        self._running = Gauge("running", "Sequences that hold a slot", **own)
        self._tokens = Gauge(
            "outstanding_tokens", "Tokens that running and waiting requests will take, estimated", **own
        )
        self._slots = Gauge("slots", "Sequences that can run at once", **own)

    def watch(
        self, waiting: Callable[[], float], running: Callable[[], float], tokens: Callable[[], float], slots: int
    ) -> None:
        """Let the gauges read the worker."""
        self._waiting.set_function(waiting)
        self._running.set_function(running)
        self._tokens.set_function(tokens)
        self._slots.set(slots)

    def total(self, counter: Counter) -> int:
        """A counter summed over its labels."""
        samples = (sample for family in counter.collect() for sample in family.samples)
        return int(sum(sample.value for sample in samples if sample.name.endswith("_total")))

    def exposition(self) -> bytes:
        """The page that /metrics answers."""
        return generate_latest(self.registry)
