"""What the server counts, in Prometheus' format, in a registry of its own (two servers in one process stay apart).

Times are taken where the client would see them: from the arrival of the request to the moment a piece of the answer
is handed to the HTTP layer. Gauges read the worker when they are asked, so they cannot drift from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypedDict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily

from ingot.infer.scheduler import Counters

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONG_SECONDS = (*SECONDS, 120.0, 300.0, 600.0)
GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


GAUGES = {
    "queue_depth": "Sequences waiting for a slot",
    "running": "Sequences that hold a slot",
    "slots": "Sequences that can run at once",
    "outstanding_tokens": "Tokens that running and waiting requests will take, estimated",
    "kv_blocks": "Blocks of keys and values there are",
    "kv_blocks_held": "Blocks that sequences hold",
    "kv_usage": "Share of the blocks that sequences hold",
}
ENGINE = {
    "prefix_cache_queries": ("asked", "Prompt tokens that were to be read"),
    "prefix_cache_hits": ("hit", "Prompt tokens that were found in the cache instead"),
    "preempted": ("preempted", "Sequences that had to give up their blocks and read again"),
    "drafted": ("drafted", "Tokens that were guessed"),
    "accepted": ("accepted", "Guessed tokens that were right"),
}
"""What the engine counts itself: name -> its counter, and what it means."""


class _EngineCounters:
    """The engine's counters, as Prometheus collects them."""

    def __init__(self, counters: Callable[[], Counters]) -> None:
        self._counters = counters

    def collect(self) -> Iterator[CounterMetricFamily]:
        found = self._counters()
        for name, (counter, meaning) in ENGINE.items():
            yield CounterMetricFamily(f"ingot_{name}", meaning, value=getattr(found, counter))


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
        self._own = own

    def watch(self, gauges: dict[str, Callable[[], float]], counters: Callable[[], Counters]) -> None:
        """Let gauges and the engine's own counters be read when they are asked for."""
        for name, read in gauges.items():
            Gauge(name, GAUGES[name], **self._own).set_function(read)
        self.registry.register(_EngineCounters(counters))

    def total(self, counter: Counter) -> int:
        """A counter summed over its labels."""
        samples = (sample for family in counter.collect() for sample in family.samples)
        return int(sum(sample.value for sample in samples if sample.name.endswith("_total")))

    def exposition(self) -> bytes:
        """The page that /metrics answers."""
        return generate_latest(self.registry)
