"""Tools over HTTP: what the template is shown, what answers call, whole and streamed alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from serving import HELLO, ROOM, Running, ScriptedEngine, events, running, tokenizer_of, until

from ingot.guard.guard import Guard
from ingot.guard.policy import Policy
from ingot.text.tokenizer import Tokenizer
from tiny import write_tokenizer

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "look at a place",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}
ADD = {"type": "function", "function": {"name": "add"}}
TOOLS = [LOOK, ADD]
LOOKED = '<tool_call>\n{"name": "look", "arguments": {"at": "天空", "n": 1.0}}\n</tool_call>'
ADDED = '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
LOOK_CALL = {"type": "function", "function": {"name": "look", "arguments": '{"at": "天空", "n": 1.0}'}}
ADD_CALL = {"type": "function", "function": {"name": "add", "arguments": "{}"}}


def say(server: Running, qwen: Tokenizer, script: str) -> ScriptedEngine:
    """From now on the engine answers so."""
    engine = server.worker.engine
    assert isinstance(engine, ScriptedEngine)
    assert qwen.eos_id is not None
    engine.script = [*qwen.encode(script, special=True), qwen.eos_id]
    return engine


def put_together(text: str) -> dict[int, dict[str, Any]]:
    """Choices of a stream, as a client adds them up."""
    *found, done = events(text)
    assert done == "[DONE]"
    choices: dict[int, dict[str, Any]] = {}
    for chunk in map(json.loads, found):
        for part in chunk["choices"]:
            choice = choices.setdefault(part["index"], {"content": None, "tool_calls": [], "finish_reason": None})
            if part["delta"].get("content") is not None:
                choice["content"] = (choice["content"] or "") + part["delta"]["content"]
            for call in part["delta"].get("tool_calls", []):
                if call["index"] == len(choice["tool_calls"]):
                    assert call.keys() == {"index", "id", "type", "function"}
                    choice["tool_calls"].append({**call, "function": dict(call["function"])})
                else:
                    assert call.keys() == {"index", "function"}
                    assert call["function"].keys() == {"arguments"}
                    choice["tool_calls"][call["index"]]["function"]["arguments"] += call["function"]["arguments"]
            choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]
    return choices


def without_ids(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assert len({call["id"] for call in calls}) == len(calls)
    return [{key: value for key, value in call.items() if key not in {"id", "index"}} for call in calls]


CASES = {
    "one": (LOOKED, None, [LOOK_CALL], "tool_calls"),
    "two, with text": (f"I look. {LOOKED}\n{ADDED}\n", "I look.", [LOOK_CALL, ADD_CALL], "tool_calls"),
    "none": ("the cat", "the cat", [], "stop"),
    "empty": ("", None, [], "stop"),
    "unknown": (ADDED.replace("add", "fly"), ADDED.replace("add", "fly"), [], "stop"),
    "broken": (ADDED.replace("{}", "{"), ADDED.replace("{}", "{"), [], "stop"),
}


@pytest.mark.parametrize("name", CASES)
def test_calls_whole_and_streamed(server: Running, qwen: Tokenizer, name: str) -> None:
    script, content, calls, reason = CASES[name]
    say(server, qwen, script)
    asked = {"tools": TOOLS, "n": 2}
    streamed = put_together(server.chat(stream=True, **asked).text)
    for choice in server.chat(**asked).json()["choices"]:
        message = choice["message"]
        assert message["content"] == content
        assert without_ids(message.get("tool_calls", [])) == calls
        assert ("tool_calls" in message) == bool(calls)
        assert choice["finish_reason"] == reason
        other = streamed[choice["index"]]
        assert (other["content"], other["finish_reason"]) == (content, reason)
        assert without_ids(other["tool_calls"]) == calls


def test_the_first_chunk_of_an_answer_that_may_call_has_no_content(server: Running, qwen: Tokenizer) -> None:
    say(server, qwen, LOOKED)
    first = json.loads(events(server.chat(stream=True, tools=TOOLS).text)[0])
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": None}


def test_the_template_is_shown_the_tools(server: Running, qwen: Tokenizer) -> None:
    engine = say(server, qwen, "cat")
    server.chat(tools=TOOLS)
    shown = qwen.decode(engine.prompts[-1], skip_special=False)
    assert json.dumps(LOOK) in shown
    assert json.dumps({**ADD, "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}) in shown
    for body in ({"tools": TOOLS, "tool_choice": "none"}, {"tools": []}, {}):
        assert server.chat(**body).status_code == 200
        assert "look" not in qwen.decode(engine.prompts[-1], skip_special=False)


def test_choice_none_leaves_calls_in_the_text(server: Running, qwen: Tokenizer) -> None:
    say(server, qwen, LOOKED)
    (choice,) = server.chat(tools=TOOLS, tool_choice="none").json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (LOOKED, "stop")


def test_one_call_alone_ends_the_answer(server: Running, qwen: Tokenizer) -> None:
    engine = say(server, qwen, f"{LOOKED}\n{ADDED} and so on" * 3)
    for stream in (False, True):
        response = server.chat(tools=TOOLS, parallel_tool_calls=False, stream=stream)
        choice = put_together(response.text)[0] if stream else response.json()["choices"][0]["message"]
        assert without_ids(choice["tool_calls"]) == [LOOK_CALL]
        until(lambda: server.idle() and not engine.running)
    body = server.chat(tools=TOOLS, parallel_tool_calls=False).json()
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    assert body["usage"]["completion_tokens"] < len(engine.script)
    assert len(server.chat(tools=TOOLS, parallel_tool_calls=True).json()["choices"][0]["message"]["tool_calls"]) == 6


def test_an_answer_that_is_cut_off_calls_nothing(server: Running, qwen: Tokenizer) -> None:
    say(server, qwen, LOOKED)
    size = len(qwen.encode(LOOKED)) - 1
    (choice,) = server.chat(tools=TOOLS, max_tokens=size).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (LOOKED[:-1], "length")


def test_calls_and_results_are_sent_back(server: Running, qwen: Tokenizer) -> None:
    """Results stand in the order of their calls, because the template writes no ids."""
    engine = say(server, qwen, f"{LOOKED}{ADDED}")
    message = server.chat(tools=TOOLS).json()["choices"][0]["message"]
    looked, added = (call["id"] for call in message["tool_calls"])
    results = [
        {"role": "tool", "tool_call_id": added, "content": "3"},
        {"role": "tool", "tool_call_id": looked, "content": [{"type": "text", "text": "blue"}]},
    ]
    assert server.chat(messages=[*HELLO, message, *results], tools=TOOLS).status_code == 200
    shown = qwen.decode(engine.prompts[-1], skip_special=False)
    assert '{"name": "look", "arguments": {"at": "天空", "n": 1.0}}' in shown
    assert shown.index("blue") < shown.index("\n3\n")
    for id in ("other", ""):
        wrong = [*HELLO, message, results[0] | {"tool_call_id": id}]
        error = server.chat(messages=wrong, tools=TOOLS).json()["error"]
        assert error["param"] == "messages[2].tool_call_id"


def test_large_numbers_in_arguments_stay_what_they_are(server: Running, qwen: Tokenizer) -> None:
    engine = say(server, qwen, "cat")
    written = '{"n": 123456789012345678901234567890, "m": 1.5, "s": "天空"}'
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": written}}
    said = [*HELLO, {"role": "assistant", "tool_calls": [call]}]
    assert server.chat(messages=said, tools=TOOLS).status_code == 200
    assert written in qwen.decode(engine.prompts[-1])
    for wrong in (
        '{"n": NaN}',
        '{"n": "\\ud800"}',
        '{"n": ' + "[" * 2000 + "]" * 2000 + "}",
        "{} {}",
        "[]",
        "7" * 5000,
    ):
        call["function"] = {"name": "look", "arguments": wrong}
        refused = server.chat(messages=said, tools=TOOLS)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value"), wrong[:20]


def test_what_cannot_be_promised_is_refused(server: Running, tokenizer: Tokenizer) -> None:
    named = {"type": "function", "function": {"name": "not offered"}}
    strict = {"type": "function", "function": {"name": "look", "strict": True}}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tools": TOOLS, "tool_choice": named}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [strict]}, "tools[0].function.strict"),
        ({"tools": [ADD, ADD]}, "tools[1].function.name"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls"),
    ]
    for body, param in cases:
        response = server.chat(**body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    with running(ScriptedEngine(tokenizer), tokenizer) as plain:
        response = plain.chat(tools=TOOLS)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "tools")
        history = [*HELLO, {"role": "assistant", "tool_calls": [{"id": "1", **LOOK_CALL}]}]
        assert plain.chat(messages=history).json()["error"]["param"] == "messages"


def test_a_template_whose_form_of_calls_is_unknown_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tok")
    (tmp_path / "tok" / "chat_template.jinja").write_text(
        "{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    found = Tokenizer.open(tmp_path / "tok")
    with running(ScriptedEngine(found), found, **ROOM) as server:
        error = server.chat(tools=TOOLS).json()["error"]
    assert error["param"] == "tools"
    assert "not known" in error["message"]


def test_tags_that_are_special_tokens_are_seen(tmp_path: Path) -> None:
    found = tokenizer_of(tmp_path / "tok", "qwen2.5", ("<tool_call>", "</tool_call>"))
    assert found.id("<tool_call>") in found.special_ids
    engine = ScriptedEngine(found, "x")
    with running(engine, found, **ROOM) as server:
        say(server, found, f"so {LOOKED}")
        choice = server.chat(tools=TOOLS).json()["choices"][0]
        assert choice["message"]["content"] == "so"
        assert without_ids(choice["message"]["tool_calls"]) == [LOOK_CALL]
        assert without_ids(put_together(server.chat(tools=TOOLS, stream=True).text)[0]["tool_calls"]) == [LOOK_CALL]


def test_the_guard_reads_arguments_tools_and_results(qwen: Tokenizer) -> None:
    guard = Guard(Policy("test", {"email": "redact", "card": "block"}))
    mail, card = "bob@example.com", "4111 1111 1111 1111"
    engine = ScriptedEngine(qwen, LOOKED.replace("天空", mail))
    with running(engine, qwen, guard=guard, **ROOM) as server:
        for stream in (False, True):
            response = server.chat(tools=TOOLS, stream=stream)
            found = put_together(response.text)[0] if stream else response.json()["choices"][0]["message"]
            assert found["tool_calls"][0]["function"]["arguments"] == '{"at": "[email]", "n": 1.0}'
        described = {"type": "function", "function": {"name": "look", "description": f"ask {mail}"}}
        assert server.chat(tools=[described]).headers["x-ingot-guard"] == "redacted=email"
        assert mail not in qwen.decode(engine.prompts[-1])
        call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": json.dumps({"at": card})}}
        talk = [*HELLO, {"role": "assistant", "tool_calls": [call]}]
        assert server.chat(messages=talk).json()["error"]["code"] == "content_filter"
        talk[1] = {"role": "assistant", "tool_calls": [call | {"function": {"name": "look", "arguments": "{}"}}]}
        result = {"role": "tool", "tool_call_id": "1", "content": card}
        assert server.chat(messages=[*talk, result]).json()["error"]["code"] == "content_filter"
