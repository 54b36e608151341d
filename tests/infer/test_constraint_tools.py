"""Calls of tools: exactly the known functions with arguments of their schemas, one or several."""

from typing import Any

from constrained import refusal, takes

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"city": {"enum": ["台北", "高雄"]}},
}
TOOLS = [{"name": "get_weather", "parameters": WEATHER}, {"name": "stop"}]


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def test_a_call_is_of_a_known_function_with_fitting_arguments() -> None:
    assert takes(call("get_weather", '{"city": "台北", "days": 3}'), tools=TOOLS)
    assert takes(call("stop", '{"anything": [1]}'), tools=TOOLS)
    for text in (
        call("get_weather", '{"city": "Paris"}'),
        call("get_weather", "{}"),
        call("get_weather", '{"city": "台北", "days": 10}'),
        call("other", "{}"),
        call("stop", "3"),
        call("stop", "{}")[:-1],
        '{"name": "stop", "arguments": {}}',
        "hello " + call("stop", "{}"),
    ):
        assert not takes(text, tools=TOOLS), text


def test_several_calls_only_where_they_are_asked_for() -> None:
    several = "\n".join([call("stop", "{}"), call("get_weather", '{"city": "高雄"}'), call("stop", "{}")])
    assert takes(several, tools=TOOLS, parallel=True)
    assert takes(call("stop", "{}"), tools=TOOLS, parallel=True)
    assert not takes(several, tools=TOOLS)


def test_a_schema_that_cannot_be_enforced_is_refused_with_the_tool() -> None:
    bad = [TOOLS[0], {"name": "x", "parameters": {"properties": {"a": {"not": {}}}}}]
    assert "at #/tools/1/parameters/properties/a/not:" in refusal(tools=bad)
    vague = [{"name": "x", "parameters": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}]
    assert "at #/tools/0/parameters: the branches" in refusal(tools=vague)
    assert "two tools are called stop" in refusal(tools=[*TOOLS, TOOLS[1]])
