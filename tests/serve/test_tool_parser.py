"""Calls in answers: the same whichever way the text is cut, never lost, never half."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.serve.tools.call import Call, read_call
from ingot.serve.tools.formats import FORMATS, format_of

OFFERED = frozenset({"look", "add"})
LOOK = '{"name": "look", "arguments": {"at": "天空", "n": 1.0}}'
ADD = '{"arguments":{"a":[1, 2],"b":{"c":null}}, "name":"add"}'


def tagged(*bodies: str) -> str:
    return "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)


def read(form: str, text: str, cuts: list[int] | None = None, ended: bool = True) -> tuple[str, list[tuple[str, str]]]:
    """Text and calls of an answer, pushed in pieces that end at `cuts`."""
    parser = FORMATS[form].reader(OFFERED)
    edges = [0, *sorted(cut for cut in set(cuts or []) if 0 < cut < len(text)), len(text)]
    found = [part for begin, end in pairwise(edges) for part in parser.push(text[begin:end])]
    found += parser.finish(ended)
    said = "".join(part for part in found if isinstance(part, str))
    return said, [(part.name, part.arguments) for part in found if isinstance(part, Call)]


LOOKED, ADDED = ("look", '{"at": "天空", "n": 1.0}'), ("add", '{"a":[1, 2],"b":{"c":null}}')
ANSWERS = {
    "none": ("hermes", "the cat < sat <tool> on\n", ("the cat < sat <tool> on\n", [])),
    "one": ("hermes", tagged(LOOK), ("", [LOOKED])),
    "text before": ("hermes", f"I will look. \n\n{tagged(LOOK)}", ("I will look.", [LOOKED])),
    "two": ("hermes", f"{tagged(LOOK, ADD)}\n", ("", [LOOKED, ADDED])),
    "text between and after": ("hermes", f"a {tagged(LOOK)} b {tagged(ADD)} c ", ("a b c ", [LOOKED, ADDED])),
    "space behind only": ("hermes", f"a{tagged(LOOK)} b", ("a b", [LOOKED])),
    "only calls and space": ("hermes", f" {tagged(LOOK)} {tagged(ADD)} \n", ("", [LOOKED, ADDED])),
    "string arguments": (
        "hermes",
        tagged(json.dumps({"name": "look", "arguments": '{"at": 1}'})),
        ("", [("look", '{"at": 1}')]),
    ),
    "no arguments": ("hermes", tagged('{"name": "look"}'), ("", [("look", "{}")])),
    "tag in a string": (
        "hermes",
        tagged('{"name": "look", "arguments": {"at": "a</tool_call> \\" <tool_call>b"}}'),
        ("", [("look", '{"at": "a</tool_call> \\" <tool_call>b"}')]),
    ),
    "end tag missing": ("hermes", f"x <tool_call>{LOOK}", ("x", [LOOKED])),
    "broken": ("hermes", f"x {tagged('{oops}')} y", (f"x {tagged('{oops}')} y", [])),
    "broken then right": ("hermes", tagged('{"name": 5}', LOOK), (tagged('{"name": 5}'), [LOOKED])),
    "right then broken": ("hermes", tagged(LOOK, "{]"), (tagged("{]"), [LOOKED])),
    "unknown function": ("hermes", tagged('{"name": "fly", "arguments": {}}'), None),
    "other keys": ("hermes", tagged('{"name": "look", "arguments": {}, "why": 1}'), None),
    "a key twice": ("hermes", tagged('{"name": "look", "name": "add"}'), None),
    "not a number": ("hermes", tagged('{"name": "look", "arguments": {"a": NaN}}'), None),
    "a list of arguments": ("hermes", tagged('{"name": "look", "arguments": [1]}'), None),
    "something behind": ("hermes", tagged(LOOK + "}"), None),
    "deep": ("hermes", tagged('{"name": "look", "arguments": ' + '{"a":' * 5000 + "1" + "}" * 5001), None),
    "unfinished": ("hermes", "a <tool_call>" + LOOK[:30], None),
    "begun": ("hermes", "a <tool_c", None),
    "space at the end": ("hermes", "a \n\n ", None),
    "mistral": ("mistral", f"[TOOL_CALLS] [{LOOK}, {ADD}]", ("", [LOOKED, ADDED])),
    "mistral with text": ("mistral", f"so: [TOOL_CALLS][{LOOK}] ", ("so:", [LOOKED])),
    "mistral, one wrong": ("mistral", f'[TOOL_CALLS] [{LOOK}, {{"name": "fly"}}]', None),
    "mistral, no list": ("mistral", f"[TOOL_CALLS] {LOOK}", None),
    "mistral, nothing": ("mistral", "[TOOL_CALLS] []", None),
    "mistral, none": ("mistral", "just [text]", None),
    "llama": ("llama", ' {"name": "look", "parameters": {"at": 2}}\n', ("", [("look", '{"at": 2}')])),
    "llama, arguments": ("llama", LOOK, ("", [LOOKED])),
    "llama, both": ("llama", '{"name": "look", "parameters": {}, "arguments": {}}', None),
    "llama, json that is no call": ("llama", '{"answer": 42}', None),
    "llama, text": ("llama", f"here: {LOOK}", None),
}
"""Format, what the model wrote, and what comes of it; None: all of it stays text."""


@pytest.mark.parametrize("name", ANSWERS)
def test_every_cut_gives_the_same(name: str) -> None:
    form, text, expected = ANSWERS[name]
    expected = (text, []) if expected is None else expected
    assert read(form, text) == expected
    if len(text) < 1000:
        assert read(form, text, list(range(len(text)))) == expected
        assert all(read(form, text, [cut]) == expected for cut in range(len(text)))


PARTS = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        LOOK,
        ADD,
        "\n",
        " ",
        "cat",
        '"',
        "\\",
        "{",
        "<tool",
        '{"name": "fly"}',
        "[TOOL_CALLS]",
    ]
)


@given(
    parts=st.lists(PARTS, max_size=12),
    cuts=st.lists(st.integers(0, 300), max_size=20),
    form=st.sampled_from(sorted(FORMATS)),
    ended=st.booleans(),
)
def test_any_cut_of_anything_gives_the_same(parts: list[str], cuts: list[int], form: str, ended: bool) -> None:
    text = "".join(parts)
    whole = read(form, text, ended=ended)
    assert read(form, text, cuts, ended) == whole
    assert read(form, text, list(range(len(text))), ended) == whole
    # Nothing but white space, tags and whole calls may be missing from the text.
    said, calls = whole
    if not calls:
        assert said == text


def test_an_answer_that_is_cut_off_calls_nothing() -> None:
    for form, text in (("hermes", f"<tool_call>{LOOK}"), ("mistral", f"[TOOL_CALLS] [{LOOK}]"), ("llama", LOOK)):
        assert read(form, text, ended=False) == (text, [])


def test_a_call_is_handed_on_as_soon_as_it_is_complete() -> None:
    parser = FORMATS["hermes"].reader(OFFERED)
    text = tagged(LOOK)
    assert parser.push(text[:-1]) == []
    (call,) = parser.push(text[-1])
    assert isinstance(call, Call)
    assert call.id.startswith("call_")
    assert parser.push(" more") == ["more"]


def test_text_is_held_back_only_where_a_call_may_begin() -> None:
    parser = FORMATS["hermes"].reader(OFFERED)
    assert parser.push("the cat ") == ["the cat"]
    assert parser.push("<") == []
    assert parser.push("b> sat") == [" <b> sat"]


def test_names_of_mistrals_calls_are_what_its_template_takes() -> None:
    parser = FORMATS["mistral"].reader(OFFERED)
    parser.push(f"[TOOL_CALLS] [{LOOK}, {ADD}]")
    ids = [part.id for part in parser.finish(True) if isinstance(part, Call)]
    assert all(len(id) == 9 and id.isalnum() for id in ids)
    assert len(set(ids)) == 2


def test_the_template_tells_the_form() -> None:
    cases = {
        "hermes": "{{ tools }}<tool_call>",
        "mistral": "[AVAILABLE_TOOLS]{{ tools }}[TOOL_CALLS]",
        "llama": '<|eot_id|>{"name": function name, "parameters": dictionary}',
    }
    for name, source in cases.items():
        found = format_of(source)
        assert found is not None
        assert found.name == name
    assert format_of("{{ messages }}") is None


def test_read_call_gives_arguments_as_they_were_written() -> None:
    call = read_call('{"name": "look", "arguments": {"n": 1e3, "x":   [ ]}}', OFFERED)
    assert call is not None
    assert call.arguments == '{"n": 1e3, "x":   [ ]}'
