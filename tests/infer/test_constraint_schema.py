"""JSON schemas: what is refused, with its pointer; what is enforced, against hand-made texts and `jsonschema`."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from constrained import constraints, refusal, takes
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemas import WILD, random_schema

from ingot import IngotError
from ingot.infer.constraint.options import Constraint
from ingot.infer.constraint.proof import is_multiple, json_proof, read_json
from ingot.infer.constraint.schema import ANNOTATIONS, MAX_DEPTH, NEUTRAL, SCHEMAS, read_schema
from ingot.infer.constraint.values import VALUES

DEEP: Any = {}
for _ in range(1000):
    DEEP = {"items": DEEP}
DEEP_VALUE: Any = 1
for _ in range(1000):
    DEEP_VALUE = [DEEP_VALUE]

REFUSED: list[tuple[Any, str, str]] = [
    ({"not": {}}, "/not", "'not' is not enforced"),
    ({"properties": {"a/b~": {"uniqueItems": True}}}, "/properties/a~1b~0/uniqueItems", "not enforced"),
    ({"items": {"anyOf": [{}, {"contains": {}}]}}, "/items/anyOf/1/contains", "not enforced"),
    ({"type": "object", "requierd": ["a"]}, "/requierd", "not enforced"),
    ({"x-guidance": {"lenient": True}}, "/x-guidance", "not enforced"),
    ({"nullable": True}, "/nullable", "not enforced"),
    ({"$defs": {"unused": {"if": {}}}}, "/$defs/unused/if", "not enforced"),
    ({"format": "int32"}, "/format", "the format 'int32' is not enforced here; known: date"),
    ({"format": "unknown"}, "/format", "not enforced"),
    ({"pattern": "(?!a)"}, "/pattern", "looking around"),
    ({"patternProperties": {"(?!a)": {}}}, "/patternProperties/(?!a)", "looking around"),
    ({"patternProperties": {"[0-9]": {}, "\\d": {}}}, "/patternProperties/\\d", "another key is the same pattern"),
    ({"patternProperties": {"^a": {"type": "string"}, "b$": {"type": "null"}}}, "", "not disjoint"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "", "use 'anyOf'"),
    ({"properties": {"q": {"oneOf": [{"minimum": 1}, {"maximum": 3}]}}}, "/properties/q", "use 'anyOf'"),
    ({"items": [{}]}, "/items", "'prefixItems'"),
    ({"type": "strng"}, "/type", "found 'strng'"),
    ({"type": []}, "/type", "expected null, boolean"),
    ({"enum": []}, "/enum", "at least one value"),
    ({"enum": "a"}, "/enum", "expected a list"),
    ({"enum": 5}, "/enum", "expected a list"),
    ({"oneOf": [{"enum": ["a"]}, {"enum": 5}]}, "/oneOf/1/enum", "expected a list"),
    ({"properties": {1: {}}}, "/properties", "expected a text; found 1"),
    ({"enum": [0, 2**60]}, "/enum/1", "at most 15 digits"),
    ({"const": 1e300}, "/const", "at most 15 digits"),
    ({"const": float("nan")}, "/const", "at most 15 digits"),
    ({"const": "\ud800"}, "/const", "half a character"),
    ({"properties": {"\ud800": {}}}, "/properties", "half a character"),
    ({"const": {"a": (1,)}}, "/const", "no JSON value"),
    ({"const": DEEP_VALUE}, "/const", "nested more than"),
    ({"minimum": 2**53 + 1}, "/minimum", "at most 15 digits"),
    ({"minimum": "1"}, "/minimum", "expected a number"),
    ({"exclusiveMinimum": True}, "/exclusiveMinimum", "expected a number"),
    ({"multipleOf": 0}, "/multipleOf", "above 0"),
    ({"maxLength": -1}, "/maxLength", "expected a count"),
    ({"minItems": 1.5}, "/minItems", "expected a count"),
    ({"type": "array", "minItems": 2, "maxItems": 1}, "", "minItems (2) is greater"),
    ({"minProperties": 2}, "/minProperties", "counted twice"),
    ({"required": "a"}, "/required", "list of names"),
    ({"properties": []}, "/properties", "object of schemas"),
    ({"anyOf": []}, "/anyOf", "list of schemas"),
    ({"additionalProperties": 3}, "/additionalProperties", "a schema is an object"),
    ({"properties": {"a": {"$id": "x"}}}, "/properties/a/$id", "only supported at the top"),
    ({"$schema": "http://json-schema.org/draft-04/schema#"}, "/$schema", "expected draft 2020-12"),
    ({"$anchor": "x"}, "/$anchor", "not enforced"),
    ({"$ref": "http://x.org/y"}, "/$ref", "a pointer into this schema"),
    ({"$ref": "#/$defs/x"}, "/$ref", "no schema inside"),
    ({"$ref": "#/properties", "properties": {"a": {}}}, "/$ref", "no schema inside"),
    ({"$ref": "#"}, "/$ref", "refers to itself"),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "/$defs/", "refers to itself"),
    (False, "", "false allows nothing"),
    (DEEP, "/items" * (MAX_DEPTH + 1), "nested more than 64 deep"),
    ({"enum": list(range(30_000))}, "", "more than 20000 parts"),
    ({"anyOf": [{}] * 30_000}, "/anyOf/", "more than 20000 parts"),
    ({"enum": ["x" * 2_000_000]}, "", "bytes, 1000000 are taken"),
    ({"type": "object", "properties": {f"p{at}": {} for at in range(500)}}, "/properties", "more than 400"),
    ({"pattern": "^((a{1,100}){1,100}){1,100}$"}, "/pattern", "counts multiplied out"),
]


@pytest.mark.parametrize(("schema", "pointer", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_enforced_is_refused_with_its_pointer(schema: Any, pointer: str, reason: str) -> None:
    with pytest.raises(IngotError) as caught:
        constraints().compiled(Constraint.model_construct(json_schema=schema, _fields_set={"json_schema"}))
    assert caught.value.code == "schema-refused"
    found = str(caught.value.details["pointer"])
    assert found.startswith(pointer) if pointer.endswith("/") else found == pointer
    assert reason in str(caught.value.details["reason"])
    assert f"at #{found}" in str(caught.value)


def test_nothing_that_llguidance_knows_slips_through() -> None:
    """Every keyword that is neither enforced nor an annotation is refused, whatever its value; and each of our lists
    is known to `jsonschema`, but for what other dialects add."""
    known = {*VALUES, *SCHEMAS, *ANNOTATIONS, *NEUTRAL, "$ref", "$schema", "$id"}
    for name in (
        *Draft202012Validator.VALIDATORS,
        "$dynamicAnchor",
        "$recursiveRef",
        "$vocabulary",
        "contentMediaType",
    ):
        value = WILD.get(name, {"a": 1})
        if name not in VALUES and name not in SCHEMAS and name != "$ref":
            assert f"#/{name}:" in refusal(json_schema={name: value}), name
    assert known >= Draft202012Validator.VALIDATORS.keys() & known


@pytest.mark.parametrize("name", NEUTRAL)
def test_values_that_ask_for_nothing_are_taken(name: str) -> None:
    for value in NEUTRAL[name]:
        assert takes("[1, 1]", json_schema={name: value, "type": "array"}), value


TAKEN: list[tuple[Any, list[str], list[str]]] = [
    ({"type": "string", "maxLength": 2}, ['"中文"', '"😀😀"', '""', '"\\n\\\\"'], ['"中文字"', '"abc"', '"a']),
    ({"type": "string", "minLength": 2}, ['"中文"', '"a b"'], ['"中"', '""']),
    ({"enum": ["中", "b\n", 1, None, {"a": [1]}]}, ['"中"', '"b\\n"', "1", "null", '{"a":[1]}'], ['"文"', "2"]),
    ({"type": "integer", "minimum": -2, "maximum": 12}, ["-2", "0", "12"], ["-3", "13", "1.0", "01"]),
    ({"type": "number", "minimum": 0.1, "exclusiveMaximum": 0.3}, ["0.1", "0.2999"], ["0.3", "0.09", "1e-1"]),
    ({"type": "number", "multipleOf": 0.1}, ["0.3", "239.2", "-7"], ["0.25"]),
    ({"type": "integer", "multipleOf": 7}, ["21", "-7", "0"], ["22"]),
    ({"type": ["integer", "null"]}, ["3", "null"], ['"3"', "3.5"]),
    ({"const": {"b": 1, "a": "中"}}, ['{"b": 1, "a": "中"}'], ['{"a": "中", "b": 1}', '{"b": 2, "a": "中"}']),
    (
        {"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["b"], "type": "object"},
        ['{"a":1,"b":{}}', '{"b":2}', '{"b":2,"c":3}', '{\n  "b": 2\n}'],
        ['{"a":1}', '{"b":2,"a":"x"}', '{"b":2,"b":3}', '{"b":  2}', '{\n\n"b":2}', ' {"b":2}'],
    ),
    (
        {"type": "object", "patternProperties": {"^p": {"type": "null"}}, "additionalProperties": False},
        ['{"p":null,"px":null}', "{}"],
        ['{"p":1}', '{"q":null}'],
    ),
    ({"type": "object", "maxProperties": 1}, ["{}", '{"a":1}'], ['{"a":1,"b":2}']),
    ({"type": "object", "minProperties": 1}, ['{"a":1}'], ["{}"]),
    (
        {"type": "object", "minProperties": 2, "required": ["a", "b"]},
        ['{"a":1,"b":2}'],
        ["{}", '{"a":1}'],
    ),
    ({"type": "array", "prefixItems": [{"const": "x"}], "items": False}, ['["x"]', "[]"], ['["y"]', '["x",1]']),
    ({"type": "array", "items": {"const": 1}, "minItems": 1, "maxItems": 2}, ["[1]", "[1,1]"], ["[]", "[1,1,1]"]),
    ({"anyOf": [{"type": "null"}, {"const": 3}]}, ["null", "3"], ["4"]),
    ({"oneOf": [{"const": "a", "title": "A"}, {"enum": ["b", "c"]}]}, ['"a"', '"c"'], ['"d"']),
    ({"oneOf": [{"const": "a"}, {"const": "b"}], "anyOf": [{"const": "b"}, {"const": "c"}]}, ['"b"'], ['"a"', '"c"']),
    ({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]}, ["3", "5"], ["2", "6"]),
    (
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}},
        ["[]", "[[], [[]]]"],
        ["[1]", "[[}"],
    ),
    ({"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": {"const": 1}}}, ["1"], ["2"]),
    ({"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", "type": "null"}, ["null"], ["1"]),
    ({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {}, "type": "null"}, ["null"], ["1"]),
    (True, ["1", '{"a":[true]}', '"\\u0000"'], ["nul", "01", "'a'", "{,}"]),
    ({"properties": {"const": {"$ref": "#/properties/enum"}, "enum": {"type": "null"}}, "type": "object"},
     ['{"const":null}'], ['{"const":1}']),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), TAKEN, ids=range(len(TAKEN)))
def test_what_is_taken_is_what_the_schema_allows(schema: Any, good: list[str], bad: list[str]) -> None:
    for text in good:
        assert takes(text, json_schema=schema), text
        assert Draft202012Validator(schema).is_valid(json.loads(text)) or "multipleOf" in schema
    for text in bad:
        assert not takes(text, json_schema=schema), text


def test_json_object_is_any_object() -> None:
    assert takes('{"a": [1, {"中": null}]}', json_object=True)
    assert not takes("[1]", json_object=True)


def test_white_space_is_bounded() -> None:
    schema = {"type": "array"}
    assert takes("[\n" + " " * 40 + "1]", json_schema=schema)
    assert not takes("[\n" + " " * 41 + "1]", json_schema=schema)
    assert not takes("[\t1]", json_schema=schema)


STRICT: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "object", "properties": {}, "additionalProperties": False}},
    "required": ["a"],
    "additionalProperties": False,
}


def test_strict_asks_for_closed_objects_with_all_properties() -> None:
    assert takes('{"a":{}}', json_schema=STRICT, strict=True)
    for change, pointer in [
        ({"required": []}, "#/required:"),
        ({"additionalProperties": True}, "#/additionalProperties:"),
        ({"properties": {"a": {"type": "object"}}}, "#/properties/a/additionalProperties:"),
    ]:
        assert pointer in refusal(json_schema=STRICT | change, strict=True)
        assert refusal(json_schema=STRICT | change) == ""


def test_the_place_of_a_refusal_is_in_the_schema_that_was_given() -> None:
    """A walk from the root by the pointer arrives at what is blamed, for keywords put anywhere."""
    for seed in range(400):
        schema = random_schema(seed, wild=True)
        with pytest.raises(IngotError) as caught:
            constraints().compiled(Constraint(json_schema=schema))
        place: Any = schema
        for step in str(caught.value.details["pointer"]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            place = place[int(step)] if isinstance(place, list) else place[step]
        assert place in WILD.values()


@settings(max_examples=200, deadline=None)
@given(number=st.integers(-(10**30), 10**30), places=st.integers(0, 12), by=st.integers(1, 10**6))
def test_multiples_are_told_exactly(number: int, places: int, by: int) -> None:
    from fractions import Fraction

    value, divisor = Decimal(number).scaleb(-places), Decimal(by).scaleb(-3)
    assert is_multiple(value, divisor) == ((Fraction(value) / Fraction(divisor)).denominator == 1)
    assert is_multiple(number, by) == (number % by == 0)


def test_numbers_are_read_exactly_however_long() -> None:
    long = "-1" + "0" * 9000 + "7"
    assert read_json(long) == -(10**9001 + 7)
    assert read_json("0.1") == Decimal("0.1")
    assert read_json("1e99999999999999999999") == Decimal("Infinity")
    assert is_multiple(Decimal("1e999999999"), 7) is False
    assert is_multiple(Decimal("1e-999999999"), 7) is False
    with pytest.raises(ValueError, match="no JSON number"):
        read_json("NaN")


def test_the_proof_finds_what_the_schema_forbids() -> None:
    prove = json_proof(read_schema(STRICT | {"properties": {"a": {"type": "string", "format": "date"}}}))
    assert prove('{"a":"2024-02-29"}') is None
    assert "no date" in (prove('{"a":"2023-02-29"}') or "")
    assert "$" in (prove('{"a":"2024-02-29","b":1}') or "")
    assert "JSONDecodeError" in (prove('{"a":"2024') or "")
    assert "RecursionError" in (json_proof({})("[" * 3000 + "]" * 3000) or "")
