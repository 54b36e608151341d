"""Every field of both request bodies acts or is refused by name: the tables here are walked against the schema."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import pytest
from serving import HELLO, Running, ScriptedEngine, running, until

from ingot.infer.options import NEEDS, Sampling
from ingot.infer.sequence import Event, Sequence, TokenLogprobs
from ingot.serve.errors import ApiError
from ingot.serve.schema import MESSAGE_REFUSED, REFUSED, ChatBody, CompletionBody
from ingot.serve.schema.generation import OWN
from ingot.text.tokenizer import Tokenizer

CONTROLS = {name: field for name, field in Sampling.model_fields.items() if name not in OWN}
"""The engine's controls, each of which is a field of both bodies."""

EXAMPLES: dict[str, Any] = {
    "mirostat": 2,
    "temperature": 0.25,
    "stop": ["zz"],
    "force_words": ["cat"],  # as the engine's script has it: an answer without it is an error
    "logit_bias": {"3": -4},
    "seed": 11,
    "negative_prompt": "zz",
    "dola_layers": "high",
}
"""Values to try where the type alone does not tell one."""
READ: dict[str, Any] = {"logit_bias": {3: -4.0}}
"""What of such a value the engine gets, where that is not the same."""
BESIDE: dict[str, dict[str, Any]] = {
    "logprobs_mode": {"logprobs": 1},
    "penalty_last_n": {"presence_penalty": 1},
    "dola_relative_top": {"dola_layers": "low"},
    "negative_prompt": {"guidance_scale": 2},
    "negative_prompt_ids": {"guidance_scale": 2},
    **{name: {needed: 2 if needed == "mirostat" else 1} for name, needed in NEEDS.items()},
}
"""What some controls need beside them."""

ELSEWHERE = {
    "model": "test_unknown_model",
    "stream": "test_serve_answers",
    "stream_options": "test_serve_answers",
    "n": "test_serve_answers",
    "max_tokens": "test_max_tokens_acts",
    "logprobs": "test_serve_answers",
    "top_logprobs": "test_serve_answers",
    "messages": "test_serve_answers",
    "prompt": "test_serve_answers",
    "echo": "test_serve_answers",
    "best_of": "test_best_of_answers_with_the_likeliest",
    "max_completion_tokens": "test_max_completion_tokens_acts",
    "user": "test_user_stands_in_the_log",
    "deadline_ms": "test_serve_limits",
    "cache_salt": "test_serve_tenants",
    "tools": "test_serve_tools",
    "tool_choice": "test_serve_tools",
    "parallel_tool_calls": "test_serve_tools",
    "response_format": "test_serve_form",
    "structured_outputs": "test_serve_form",
    "add_generation_prompt": "test_serve_texts",
    "continue_final_message": "test_serve_texts",
}
"""Fields that act in another place, and the test, or its file, that shows it."""

TOOL = {"type": "function", "function": {"name": "look"}}
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}

OUT_OF_RANGE: dict[str, list[Any]] = {
    "response_format": ["json", {}, {"type": "xml"}, {"type": "json_schema"}, {"type": "text", "json_schema": {}}],
    "structured_outputs": ["a", {}, {"regex": ""}, {"choice": []}, {"regex": "a", "choice": ["a"]}, {"other": 1}],
    "model": [1, None],
    "stream": ["yes", 1],
    "stream_options": [True, {"include_usage": "yes"}, {"include_obfuscation": True}],
    "n": [0, 129, 1.5, "1", True],
    "max_tokens": [0, -1, "5", 2.5],
    "temperature": [-0.1, 2.1, "hot", True],
    "top_p": [0, 1.01, "1"],
    "top_k": [-1, 0.5, 2**63 - 1],
    "min_p": [-0.1, 1.1],
    "repetition_penalty": [0, -1],
    "presence_penalty": [-2.1, 2.1],
    "frequency_penalty": [-2.1, 2.1],
    "logit_bias": [{"": 1}, {"3": 101}, {"3": "x"}, {"100000": 1}, [1], {"99999999999999999999": 1}],
    "bad_words": ["", 5, ["x" * 201]],
    "mirostat": [1, 3],
    "xtc_threshold": [0, 0.3],
    "penalty_last_n": [0, 5, 2**63],
    "seed": [1.5, "1", 10**30],
    "stop": ["", ["a", ""], 3, [3], ["a"] * 65],
    "min_tokens": [-1, 1000],
    "ignore_eos": ["no"],
    "logprobs_mode": ["cooked"],
    "stop_token_ids": [5, [-1], [100_000]],
    "allowed_token_ids": [[], [100_000]],
    "user": [5, "x" * 257],
    "deadline_ms": [0, -1, 1.5, "5", 10**12],
    "cache_salt": ["", 5, "x" * 257],
}
CHAT_ONLY: dict[str, list[Any]] = {
    "messages": [
        [],
        "hello",
        [1],
        [{}],
        [{"role": "user"}],
        [{"role": "robot", "content": "x"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
        [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}],
        [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": "x", "name": "bob"}],
        [{"role": "user", "content": "x", "colour": "red"}],
        [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}],
        [{"role": "assistant"}],
        [{"role": "assistant", "content": None, "tool_calls": []}],
        [*HELLO, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]}],
        [*HELLO, {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": "[]"}}]}],
        [*HELLO, {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": "{"}}]}],
        [*HELLO, {"role": "assistant", "tool_calls": [CALL | {"type": "custom"}]}],
        [*HELLO, {"role": "tool", "content": "x"}],
        [*HELLO, {"role": "tool", "content": "x", "tool_call_id": "1"}],
        [*HELLO, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "x", "tool_call_id": "2"}],
    ],
    "tools": [
        5,
        [5],
        [{}],
        [{"type": "function"}],
        [{"type": "function", "function": {"name": "a b"}}],
        [{"type": "custom", "custom": {}}],
        [TOOL] * 2,
        [TOOL] * 129,
        [TOOL | {"x": 1}],
        [{"type": "function", "function": {"name": "f", "parameters": []}}],
    ],
    "tool_choice": [
        "any",
        5,
        {},
        {"type": "function"},
        {"type": "function", "function": {}},
        "required",
        {"type": "function", "function": {"name": "look"}},
        {"type": "allowed_tools"},
    ],
    "parallel_tool_calls": ["yes", True, False],
    "add_generation_prompt": ["yes"],
    "continue_final_message": [True, 1],
    "max_completion_tokens": [0, "5"],
    "logprobs": [1, "yes"],
    "top_logprobs": [-1, 21, 3],
}
TEXT_ONLY: dict[str, list[Any]] = {
    "prompt": [5, None, [], [[]], [1.5], ["a", 5], [[-1]], [[100000]], [True], "", {}],
    "logprobs": [-1, 21, True],
    "echo": ["yes"],
    "best_of": [0, 129, "2"],
}


@pytest.fixture(scope="module")
def server(tokenizer: Tokenizer) -> Iterator[Running]:
    with running(ScriptedEngine(tokenizer), tokenizer, slots=4, waiting=4) as found:
        yield found


def ask(server: Running, chat: bool, **body: Any) -> Any:
    return server.chat(**body) if chat else server.complete(**body)


def last_sampling(server: Running) -> Sampling:
    engine = server.worker.engine
    assert isinstance(engine, ScriptedEngine)
    return engine.samplings[-1]


def other_value(name: str) -> Any:
    """A value of a control that is not its default."""
    field = CONTROLS[name]
    if name in EXAMPLES:
        return EXAMPLES[name]
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    if get_origin(field.annotation) is Literal:
        return next(kind for kind in kinds if kind != field.default)
    kind = kinds[0] if isinstance(field.annotation, UnionType) else field.annotation
    if kind is bool:
        return not field.default
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return ["zz"] if (get_args(item) or (item,))[0] is str else [3]
    low, high = (next((getattr(m, key) for m in field.metadata for key in keys if hasattr(m, key)), other)
                 for keys, other in ((("ge", "gt"), 0), (("le", "lt"), 8)))  # fmt: skip
    tried = [low + (high - low) * share for share in (0.5, 0.25, 0.75)]
    return next(value for value in (map(int, tried) if kind is int else tried) if value != field.default)


def test_the_tables_cover_the_schema() -> None:
    every = ChatBody.model_fields.keys() | CompletionBody.model_fields.keys()
    assert every == CONTROLS.keys() | ELSEWHERE.keys()
    assert every - CONTROLS.keys() <= OUT_OF_RANGE.keys() | CHAT_ONLY.keys() | TEXT_ONLY.keys()
    both = ChatBody.model_fields.keys() & CompletionBody.model_fields.keys()
    assert not both & REFUSED.keys()


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_reaches_the_engine(server: Running, chat: bool, name: str) -> None:
    value = other_value(name)
    beside = BESIDE.get(name, {})
    beside = {key: bool(item) if chat and key == "logprobs" else item for key, item in beside.items()}
    assert ask(server, chat, **beside).status_code == 200
    without = getattr(last_sampling(server), name)
    response = ask(server, chat, **beside, **{name: value})
    assert response.status_code == 200, response.text
    assert getattr(last_sampling(server), name) == READ.get(name, value) != without
    assert ask(server, chat, **beside, **{name: None}).status_code == 200
    assert getattr(last_sampling(server), name) == without


@pytest.mark.parametrize("chat", [True, False])
def test_bounds_stand_in_the_document(server: Running, chat: bool) -> None:
    with server.client as client:
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
    properties = schemas["ChatBody" if chat else "CompletionBody"]["properties"]
    assert CONTROLS.keys() <= properties.keys()
    (number, _) = properties["temperature"]["anyOf"]
    assert number == {"type": "number", "minimum": 0, "maximum": 2}
    assert all(field.description == properties[name]["description"] for name, field in CONTROLS.items())


def test_max_tokens_acts(server: Running) -> None:
    for chat in (True, False):
        assert ask(server, chat, max_tokens=2).json()["usage"]["completion_tokens"] == 2


def test_controls_that_do_not_fit_together_are_refused_by_name(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the engine's own check of a whole request says it."""
    body = ChatBody.model_validate({"model": "tiny", "messages": HELLO, "min_tokens": 9, "top_k": 3})
    with pytest.raises(ApiError) as refused:
        body.sampling(5, 1.0)
    assert (refused.value.kind.status, refused.value.param) == (400, "min_tokens")
    assert "min_tokens 9 is more than max_tokens 5" in refused.value.message


def test_best_of_answers_with_the_likeliest(tokenizer: Tokenizer) -> None:
    class Liked(ScriptedEngine):
        """The third of every four sequences is likeliest, then the second."""

        def _advance(self, sequence: Sequence) -> Event:
            event = super()._advance(sequence)
            entry = TokenLogprobs(event.token_id, [-3.0, -1.0, -0.5, -2.0][sequence.id % 4], ())
            return replace(event, logprobs=entry, text=f"<{sequence.id % 4}>" if len(sequence.tokens) == 1 else "")

    with running(Liked(tokenizer), tokenizer, slots=4, waiting=12) as server:
        body = server.complete(prompt=["the cat", "hello"], best_of=4, n=2).json()
        assert [choice["text"] for choice in body["choices"]] == ["<2>", "<1>"] * 2
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
        assert body["choices"][0]["logprobs"] is None
        made = len(ScriptedEngine(tokenizer).script)
        assert body["usage"]["completion_tokens"] == 8 * made
        assert [choice["text"] for choice in server.complete(n=2, best_of=2).json()["choices"]] == ["<0>", "<1>"]
        for more, param in (({"best_of": 1, "n": 2}, "best_of"), ({"best_of": 2, "stream": True}, "best_of")):
            refused = server.complete(**more)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_max_completion_tokens_acts(server: Running) -> None:
    assert server.chat(max_completion_tokens=2).json()["usage"]["completion_tokens"] == 2
    assert server.chat(max_completion_tokens=2, max_tokens=2).status_code == 200
    refused = server.chat(max_completion_tokens=2, max_tokens=3)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "max_tokens"


def test_logprobs_mode_needs_logprobs(server: Running) -> None:
    refused = server.chat(logprobs_mode="processed")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "logprobs_mode"


def test_user_stands_in_the_log(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="ingot"):
        assert server.chat(user="a\nb", stop="qq").status_code == 200
        until(lambda: any("/v1/chat/completions" in record.message for record in caplog.records))
    line = next(record.message for record in caplog.records if "/v1/chat/completions" in record.message)
    assert r"'a\nb'" in line
    assert "\n" not in line
    assert "hello" not in line


@pytest.mark.parametrize(("chat", "table"), [(True, OUT_OF_RANGE | CHAT_ONLY), (False, OUT_OF_RANGE | TEXT_ONLY)])
def test_a_wrong_value_is_refused_by_name(server: Running, chat: bool, table: dict[str, list[Any]]) -> None:
    for name, values in table.items():
        for value in values:
            response = ask(server, chat, **{name: value})
            error = response.json()["error"]
            assert response.status_code in {400, 404}, (name, value)
            assert error["type"] == "invalid_request_error", (name, value)
            assert error["code"], (name, value)
            if value != "" or name != "prompt":
                assert str(error["param"]).startswith(name), (name, value, error)
            assert error["message"], (name, value)
    assert server.idle()


ROUTES = {"chat": ChatBody, "text": CompletionBody}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unsupported_field_is_refused_unless_it_asks_for_what_happens_anyway(server: Running, name: str) -> None:
    routes = [kind is ChatBody for kind in ROUTES.values() if name not in kind.model_fields]
    assert routes
    for chat in routes:
        for value in ({"type": "json_object"}, "high", True, [{"a": 1}], 7):
            if not any(value is harmless or value == harmless for harmless in REFUSED[name]):
                response = ask(server, chat, **{name: value})
                error = response.json()["error"]
                assert response.status_code == 400
                assert error["param"] == name
                assert error["code"] == "unsupported_parameter"
        for value in (None, *REFUSED[name]):
            assert ask(server, chat, **{name: value}).status_code == 200


@pytest.mark.parametrize("name", MESSAGE_REFUSED)
def test_an_unsupported_field_of_a_message_is_refused_unless_empty(server: Running, name: str) -> None:
    message = {"role": "assistant", "content": "x"}
    assert server.chat(messages=[*HELLO, message | {name: None}]).status_code == 200
    refused = server.chat(messages=[*HELLO, message | {name: [{"id": "1"}]}])
    assert refused.status_code == 400
    assert refused.json()["error"]["param"].startswith(f"messages[1].{name}")


@pytest.mark.parametrize(
    ("wrong", "meant"), [("temprature", "temperature"), ("max_token", "max_tokens"), ("tool", "tools")]
)
def test_an_unknown_field_is_refused_with_the_nearest_name(server: Running, wrong: str, meant: str) -> None:
    error = server.chat(**{wrong: 1}).json()["error"]
    assert error["param"] == wrong
    assert error["code"] == "unknown_parameter"
    assert f"mean {meant}?" in error["message"]


def test_fields_that_act_only_together(server: Running) -> None:
    assert server.chat(stream_options={"include_usage": True}).json()["error"]["param"] == "stream_options"
    assert server.chat(top_logprobs=2).json()["error"]["param"] == "top_logprobs"
    assert server.chat(logprobs=False, top_logprobs=2).json()["error"]["param"] == "top_logprobs"
    assert server.chat(min_tokens=9, max_tokens=5).json()["error"]["param"] == "min_tokens"
