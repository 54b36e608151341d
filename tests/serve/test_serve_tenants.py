"""Prefixes are shared by requests of one key and one salt, and by no others; usage and metrics say how much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from serving import HELLO, Running, events, running, until

from ingot.adapt.load import LanguageModel, load
from ingot.infer.engine import Engine
from ingot.serve.gate import Keys
from tiny import write_model

PROMPT = list(range(40, 90))
CACHED = 48
"""Whole blocks of the prompt, its last token left to read."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> LanguageModel:
    return load(write_model(tmp_path_factory.mktemp("tenants") / "tiny", tokenizer=tokenizer_dir))


@pytest.fixture
def server(model: LanguageModel) -> Iterator[Running]:
    with running(Engine(model, 4), model.tokenizer, slots=4, waiting=8, keys=Keys(["sk-a", "sk-b"])) as found:
        yield found


def cached(server: Running, key: str = "sk-a", **body: Any) -> int:
    headers = {"authorization": f"Bearer {key}"}
    asked = {"model": "tiny", "prompt": PROMPT, "max_tokens": 2, "ignore_eos": True, **body}
    response = server.post("/v1/completions", asked, headers=headers)
    assert response.status_code == 200, response.text
    until(server.idle)
    usage = response.json()["usage"]
    assert usage["prompt_tokens"] == len(PROMPT)
    found: int = usage["prompt_tokens_details"]["cached_tokens"]
    return found


def test_a_key_and_a_salt_share_with_themselves_alone(server: Running) -> None:
    for key, body in (("sk-a", {}), ("sk-b", {}), ("sk-a", {"cache_salt": "x"}), ("sk-b", {"cache_salt": "x"}),
                      ("sk-a", {"cache_salt": "y"})):  # fmt: skip
        assert cached(server, key, **body) == 0
        assert cached(server, key, **body) == CACHED
    assert cached(server, "sk-a") == CACHED


def test_without_keys_everybody_shares_and_a_salt_still_parts(model: LanguageModel) -> None:
    with running(Engine(model, 2), model.tokenizer) as server:
        assert [cached(server), cached(server), cached(server, cache_salt="x")] == [0, CACHED, 0]


def test_usage_metrics_and_the_engine_agree(server: Running) -> None:
    headers = {"authorization": "Bearer sk-a"}
    asked = {"model": "tiny", "prompt": PROMPT, "max_tokens": 4, "ignore_eos": True}
    sums = dict.fromkeys(("prompt_tokens", "completion_tokens", "cached"), 0)
    before: dict[str, float] = {}
    for number in range(6):
        stream = number % 2 == 1
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        response = server.post("/v1/completions", asked | more | {"n": 1 + number % 3}, headers=headers)
        usage = orjson.loads(events(response.text)[-2])["usage"] if stream else response.json()["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        sums["prompt_tokens"] += usage["prompt_tokens"]
        sums["completion_tokens"] += usage["completion_tokens"]
        sums["cached"] += usage["prompt_tokens_details"]["cached_tokens"]
        until(server.idle)
        found = read(server)
        assert all(found[name] >= value for name, value in before.items()), "a counter went down"
        before = found
    until(lambda: read(server)['ingot_requests_total{route="/v1/completions",status="200"}'] == 6)
    found = read(server)
    assert found['ingot_tokens_total{kind="prompt"}'] == sums["prompt_tokens"]
    assert found['ingot_tokens_total{kind="completion"}'] == sums["completion_tokens"]
    assert found['ingot_tokens_total{kind="cached"}'] == sums["cached"] > 0
    assert found["ingot_prefix_cache_queries_total"] == len(PROMPT) * (1 + 2 + 3 + 1 + 2 + 3)
    assert found["ingot_prefix_cache_hits_total"] >= sums["cached"]
    assert found["ingot_queue_seconds_count"] == found["ingot_request_seconds_count"] == 6
    assert found["ingot_time_to_first_token_seconds_count"] == 6
    assert found['ingot_finished_total{reason="length"}'] == 12
    assert found["ingot_inter_token_seconds_count"] == 12 * 3


def test_gauges_read_the_cache(server: Running) -> None:
    engine = server.worker.engine
    page = read(server, counters=False)
    assert page["ingot_kv_blocks"] == engine.num_blocks
    assert page["ingot_kv_blocks_held"] == page["ingot_kv_usage"] == page["ingot_outstanding_tokens"] == 0
    cached(server)
    assert read(server, counters=False)["ingot_kv_blocks_held"] == 0
    server.post("/v1/chat/completions", {"model": "tiny", "messages": HELLO, "top_k": -1},
                headers={"authorization": "Bearer sk-a"})  # fmt: skip
    server.post("/v1/chat/completions", {})
    until(lambda: read(server).get('ingot_errors_total{code="invalid_value"}') == 1)
    assert read(server)['ingot_errors_total{code="invalid_api_key"}'] == 1


def read(server: Running, counters: bool = True) -> dict[str, float]:
    """The page of metrics: counters, or everything else."""
    headers = {"authorization": "Bearer sk-a"}
    with server.client as client:
        lines = client.get("/metrics", headers=headers).text.splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    ends = ("_total", "_count", "_sum", "_bucket")
    return {name: float(value) for name, value in found.items() if name.partition("{")[0].endswith(ends) == counters}
