"""The verb `judge` with models and services: always a verdict from an engine, kinship, keys, failing services."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from annotating import study_of, vote_all
from evaluating import write_lines

import ingot
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.report import Report
from ingot.evaluate.judge import verb
from ingot.evaluate.judge.asking import VERDICTS
from ingot.evaluate.judge.kin import kin_of, namesakes
from ingot.evaluate.judge.local import TOO_LONG, ask_model
from ingot.evaluate.judge.options import RemoteOptions
from ingot.evaluate.judge.remote import Remote
from ingot.evaluate.people.answers import read_answers
from ingot.evaluate.people.votes import dump_votes
from ingot.evaluate.task import parse_rows
from tiny import LLAMA, write_model, write_tokenizer

RECORDS = [{"id": n, "prompt": f"say {n}", "answers": {"one": f"it is {n}", "two": "no"}} for n in range(5)]


@pytest.fixture(scope="module")
def judge_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    tokenizer = write_tokenizer(folder / "tok")
    return write_model(folder / "judge", LLAMA | {"max_position_embeddings": 1024}, seed=3, tokenizer=tokenizer)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "answers.jsonl", RECORDS)


def test_a_random_model_always_gives_a_verdict(judge_dir: Path, answers: Path, tmp_path: Path) -> None:
    report = ingot.judge([answers], model=str(judge_dir), out=tmp_path / "r")
    rows = parse_rows((tmp_path / "r/raw/verdicts.jsonl").read_text())
    assert len(rows) == 10
    assert {row["reply"] for row in rows} <= set(VERDICTS)
    assert all(row["verdict"] in ("left", "right", "tie") for row in rows)
    assert report.summary()["parsed_share"] == 1
    assert Report.open(tmp_path / "r").numbers == report.numbers


def test_slots_change_nothing(judge_dir: Path) -> None:
    texts = [f"which {n}?" * (n + 1) for n in range(9)]
    model = load(judge_dir)
    assert ask_model(model, texts, 1) == ask_model(model, texts, 4)


def test_a_question_that_does_not_fit_is_left_out_and_told(judge_dir: Path) -> None:
    replies = ask_model(load(judge_dir), ["short", "word " * 3000], 2)
    assert replies[0].text in VERDICTS
    assert (replies[1].text, replies[1].problem) == (None, TOO_LONG)
    with pytest.raises(IngotError) as error:
        ask_model(load(judge_dir), ["word " * 3000], 2)
    assert error.value.code == "judge-nothing-fits"


@pytest.mark.slow
def test_a_thousand_prompts_with_ten_million_random_weights(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tok")
    config = LLAMA | {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6,
                      "num_key_value_heads": 6, "head_dim": 64, "max_position_embeddings": 256}  # fmt: skip
    model = load(write_model(tmp_path / "m", config, seed=0, tokenizer=tokenizer))
    assert 9e6 < sum(p.numel() for p in model.network.parameters()) < 12e6
    replies = ask_model(model, [f"{n} {'xyz天空'[n % 5]} <|endoftext|> A B tie?" for n in range(1000)], 32)
    assert sum(reply.text in VERDICTS for reply in replies) == 1000


def test_people_are_compared_with(judge_dir: Path, answers: Path, tmp_path: Path) -> None:
    study = study_of(tmp_path / "v.db", read_answers([answers]))
    vote_all(study, "ana", lambda _: "left")
    votes = tmp_path / "votes.jsonl"
    votes.write_text(dump_votes(study.store.votes()))
    report = ingot.judge([answers], model=str(judge_dir), out=tmp_path / "r", votes=votes)
    assert "kappa" in report.numbers
    assert report.summary()["human_agreement"] is not None
    other = write_lines(tmp_path / "other.jsonl", [{**r, "prompt": "else"} for r in RECORDS])
    with pytest.raises(IngotError) as error:
        ingot.judge([other], model=str(judge_dir), out=tmp_path / "s", votes=votes)
    assert error.value.code == "judge-no-votes"
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_kinship_follows_the_lineage(judge_dir: Path, base_dir: Path, answers: Path, tmp_path: Path) -> None:
    child = tmp_path / "child"
    ingot.quantize(str(judge_dir), out=child)
    systems = {"one": str(child), "two": str(base_dir)}
    assert kin_of(str(judge_dir), systems) == ["one"]
    assert kin_of(str(child), {"one": str(judge_dir), "two": str(base_dir)}) == ["one"]
    assert kin_of(str(base_dir), systems) == ["two"]
    named = [f"{name}={path}" for name, path in systems.items()]
    ingot.judge([answers], model=str(judge_dir), out=tmp_path / "r", systems=named)
    assert "its own kin: one" in (tmp_path / "r/report.json").read_text()
    assert namesakes("openai/GPT-4", ["gpt-4", "gpt-4o", "x/GPT-4"]) == ["gpt-4", "x/GPT-4"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"systems": ["one"]}, "judge-bad-system"),
        ({"systems": ["on=x"]}, "judge-unknown-system"),
        ({"remote": {"name": "m"}}, "judge-remote-unused"),
        ({"orders": "three"}, "bad-option"),
        ({"language": "fr"}, "bad-option"),
    ],
)
def test_bad_options_are_refused(
    judge_dir: Path, answers: Path, tmp_path: Path, more: dict[str, Any], code: str
) -> None:
    with pytest.raises(IngotError) as error:
        ingot.judge([answers], model=str(judge_dir), out=tmp_path / "r", **more)
    assert error.value.code == code
    assert not (tmp_path / "r").exists()


def test_limit_orders_and_rubric_act(judge_dir: Path, answers: Path, tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text("question: Which is shorter?\n")
    seen: list[str] = []

    def spy(model: object, texts: list[str], slots: int) -> Any:
        seen.extend(texts)
        return ask_model(load(judge_dir), texts, slots)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "ask_model", spy)
        ingot.judge(
            [answers],
            model=str(judge_dir),
            out=tmp_path / "r",
            limit=2,
            orders="one",
            rubric=tmp_path / "q.yaml",
            language="zh",
        )
    assert len(seen) == 2
    assert all("Which is shorter?" in text and "請只回覆一個詞" in text for text in seen)


def service(answer: Any, requests: list[httpx.Request] | None = None) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        if requests is not None:
            requests.append(request)
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json={"data": [{"id": "big"}]})
        return answer(request) if callable(answer) else httpx.Response(200, json=_said(answer))

    return httpx.MockTransport(handle)


def _said(text: str | None) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}]}


def test_a_service_is_asked_with_key_and_schema(
    monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    heard.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", "sk-hidden")
    requests: list[httpx.Request] = []
    remote = Remote("http://host:9", RemoteOptions(key_env="MY_KEY"), service('{"verdict": "A"}', requests))
    replies = remote.ask(["one?", "two?"])
    assert remote.name == "big"
    assert [reply.text for reply in replies] == ['{"verdict": "A"}'] * 2
    assert requests[0].url.path == "/v1/models"
    assert all(request.headers["authorization"] == "Bearer sk-hidden" for request in requests)
    body = json.loads(requests[-1].content)
    assert body["temperature"] == 0
    assert body["response_format"]["json_schema"]["schema"]["properties"]["verdict"]["enum"] == list(VERDICTS)
    assert "hidden" not in heard.text
    assert remote.url == "http://host:9/v1"


def test_a_login_in_the_address_is_sent_and_not_logged(
    monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    heard.set_level(logging.DEBUG)
    requests: list[httpx.Request] = []
    Remote("http://me:p%40w@host", RemoteOptions(), service("A", requests)).ask(["x"])
    assert all(request.headers["authorization"] == "Basic bWU6cEB3" for request in requests)
    assert "p%40w" not in heard.text + "".join(str(request.url) for request in requests)
    monkeypatch.setenv("MY_KEY", "k")
    for url, code in (
        ("http://me:pw@host", "judge-two-logins"),
        ("http://host/?x=1", "judge-bad-url"),
        ("http:///v1", "judge-bad-url"),
    ):
        with pytest.raises(IngotError) as error:
            Remote(url, RemoteOptions(key_env="MY_KEY"))
        assert error.value.code == code


def test_a_service_without_schemas_is_asked_in_words() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        refused = b"response_format" in request.content
        return httpx.Response(400) if refused else httpx.Response(200, json=_said("B"))

    remote = Remote("http://h/api", RemoteOptions(name="m", at_once=1), service(answer), wait=lambda _: None)
    assert [reply.text for reply in remote.ask(["x", "y"])] == ["B", "B"]


def test_a_busy_service_is_asked_again_later() -> None:
    waits: list[float] = []
    tries = iter([503, 429, 200])

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(next(tries), json=_said("tie"))

    remote = Remote("http://h", RemoteOptions(name="m"), service(answer), wait=waits.append)
    assert remote.ask(["x"])[0].text == "tie"
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(
    "answer", [lambda _: httpx.Response(503), lambda _: httpx.Response(401),
               lambda _: httpx.Response(200, text="<html>"),
               lambda _: (_ for _ in ()).throw(httpx.ConnectError("secret"))],
)  # fmt: skip
def test_a_service_that_keeps_failing_is_told(answer: Any) -> None:
    remote = Remote("http://u:pw@h", RemoteOptions(name="m"), service(answer), wait=lambda _: None)
    with pytest.raises(IngotError) as error:
        remote.ask(["x"])
    assert error.value.code == "judge-service"
    assert "pw" not in str(error.value)


def test_an_answer_without_text_is_no_verdict() -> None:
    remote = Remote("http://h", RemoteOptions(name="m"), service(None))
    assert remote.ask(["x"])[0].problem == "no-answer"


def test_a_missing_key_and_an_unclear_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(IngotError) as error:
        Remote("http://h", RemoteOptions(key_env="NO_KEY"))
    assert error.value.code == "judge-no-key"
    several = httpx.MockTransport(lambda _: httpx.Response(200, json={"data": [{"id": "a"}, {"id": "b"}]}))
    with pytest.raises(IngotError) as error:
        Remote("http://h", RemoteOptions(), several)
    assert error.value.code == "judge-which-model"


def test_a_service_as_judge_to_the_report(answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(url: str, options: RemoteOptions) -> Remote:
        return Remote(url, options, service("A"))

    monkeypatch.setattr(verb, "Remote", made)
    report = ingot.judge([answers], model="https://me:pw@judge.example/v1", out=tmp_path / "r")
    assert report.summary()["flip_rate"] == 1
    assert "pw" not in (tmp_path / "r/report.json").read_text()
