"""Random JSON schemas such as people write, for structured output: nested, combined, referring, in two scripts.

Deterministic by seed. Every keyword that is enforced occurs; with `wild`, some that are not, anywhere.
"""

from __future__ import annotations

import random
from typing import Any

NAMES = ("name", "age", "email", "城市", "tags", "x/y", "a~b", 'quo"te', "id", "說明")
WORDS = ("red", "green", "台北", "很好", "a b", "", "\\", "é", "😀", "null")
PATTERNS = ("^[a-z]{1,4}$", "^\\d{2}-\\d{2}$", "b", "^(是|否)$", "[\\w.]+@x\\.org$", "^[^a-y]{0,3}$", "^\\s?z$")
FORMATS = ("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
WILD: dict[str, Any] = {
    "not": {"type": "null"},
    "uniqueItems": True,
    "contains": {"const": 1},
    "if": {"type": "string"},
    "propertyNames": {"maxLength": 3},
    "dependentRequired": {"a": ["b"]},
    "unevaluatedProperties": False,
    "contentEncoding": "base64",
    "nullable": True,
    "$anchor": "here",
    "format": "int32",
    "pattern": "(?=x)y",
    "maximun": 3,
    "x-guidance": {"lenient": True},
}


def random_schema(seed: int, wild: bool = False) -> Any:
    """A schema for this seed; `wild`: with one keyword somewhere that cannot be enforced."""
    chooser = random.Random(seed)
    schema = _schema(chooser, 3)
    if chooser.random() < 0.3:
        parts = {"p": {"$ref": "#/$defs/part"}, "q": schema}
        schema = {"$defs": {"part": _schema(chooser, 1)}, "type": "object", "properties": parts, "required": ["p"]}
        schema["additionalProperties"] = False
    if wild:
        places = [place for place in _objects(schema) if "$ref" not in place]
        name, value = chooser.choice(list(WILD.items()))
        chooser.choice(places)[name] = value
    return schema


def _schema(chooser: random.Random, depth: int) -> dict[str, Any]:
    kinds = [_string, _string, _number, _integer, _enum, _const, _simple]
    kinds += [_object, _object, _object, _array, _any_of, _one_of, _all_of] if depth else []
    schema = chooser.choice(kinds)(chooser, depth)
    if chooser.random() < 0.2:
        schema |= {"title": "T", "description": "說明", "default": None}
    return schema


def _string(chooser: random.Random, depth: int) -> dict[str, Any]:
    kind = chooser.random()
    if kind < 0.25:
        return {"type": "string", "format": chooser.choice(FORMATS)}
    if kind < 0.5:
        return {"type": "string", "pattern": chooser.choice(PATTERNS), "maxLength": 12}
    least = chooser.randrange(3)
    return {"type": "string", "minLength": least, "maxLength": least + chooser.randrange(4)}


def _number(chooser: random.Random, depth: int) -> dict[str, Any]:
    low = chooser.choice([-3.5, 0, 0.25, 10])
    bounds = [{"minimum": low}, {"exclusiveMinimum": low, "maximum": low + 7.5}, {"maximum": low}, {}]
    found = {"type": "number", **chooser.choice(bounds)}
    return found | ({"multipleOf": chooser.choice([0.1, 0.25, 2])} if chooser.random() < 0.3 else {})


def _integer(chooser: random.Random, depth: int) -> dict[str, Any]:
    low = chooser.randrange(-1200, 1200)
    bounds = [{"minimum": low}, {"minimum": low, "maximum": low + 300}, {"exclusiveMaximum": low}, {}]
    found = {"type": "integer", **chooser.choice(bounds)}
    return found | ({"multipleOf": chooser.choice([2, 7, 25])} if chooser.random() < 0.3 else {})


def _enum(chooser: random.Random, depth: int) -> dict[str, Any]:
    return {"enum": chooser.sample([*WORDS, 1, 2.5, True, None, [1, "a"], {"k": "v"}], chooser.randrange(1, 5))}


def _const(chooser: random.Random, depth: int) -> dict[str, Any]:
    return {"const": chooser.choice([*WORDS, 0, -1.5, False, {"城": [1, {}]}])}


def _simple(chooser: random.Random, depth: int) -> dict[str, Any]:
    return {"type": chooser.choice(["boolean", "null", ["integer", "null"], ["string", "boolean"]])}


def _object(chooser: random.Random, depth: int) -> dict[str, Any]:
    names = chooser.sample(NAMES, chooser.randrange(0, 4))
    found: dict[str, Any] = {
        "type": "object",
        "properties": {name: _schema(chooser, depth - 1) for name in names},
        "required": [name for name in names if chooser.random() < 0.7],
    }
    rest = chooser.random()
    if rest < 0.6:
        found["additionalProperties"] = False
    elif rest < 0.8:
        found["additionalProperties"] = _schema(chooser, 0)
    if chooser.random() < 0.15:
        found["patternProperties"] = {"^p_[a-z]{1,2}$": _schema(chooser, 0)}
    if chooser.random() < 0.15:
        found |= chooser.choice([{"minProperties": 1}, {"maxProperties": len(names) + 1}])
    return found


def _array(chooser: random.Random, depth: int) -> dict[str, Any]:
    least = chooser.randrange(3)
    found: dict[str, Any] = {"type": "array", "items": _schema(chooser, depth - 1), "minItems": least}
    if chooser.random() < 0.3:
        found |= {"prefixItems": [_schema(chooser, 0)], "minItems": 1}
    return found | ({"maxItems": least + 2} if chooser.random() < 0.8 else {})


def _any_of(chooser: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [_schema(chooser, depth - 1) for _ in range(chooser.randrange(1, 4))]}


def _one_of(chooser: random.Random, depth: int) -> dict[str, Any]:
    if chooser.random() < 0.5:
        return {"oneOf": [{"const": word, "title": word} for word in chooser.sample(WORDS, 3)]}
    return {"oneOf": [_string(chooser, 0), _integer(chooser, 0), {"type": "null"}][: chooser.randrange(2, 4)]}


def _all_of(chooser: random.Random, depth: int) -> dict[str, Any]:
    first = _object(chooser, depth) | {"additionalProperties": True}
    return {"allOf": [first, {"properties": {"more": {"type": "boolean"}}, "required": ["more"]}]}


def _objects(schema: Any) -> list[dict[str, Any]]:
    """Every schema in a schema that is an object."""
    found = [schema] if isinstance(schema, dict) else []
    for name, value in schema.items() if isinstance(schema, dict) else ():
        if name in ("items", "additionalProperties"):
            found += _objects(value)
        elif name in ("anyOf", "oneOf", "allOf", "prefixItems"):
            found += [inner for each in value for inner in _objects(each)]
        elif name in ("properties", "patternProperties", "$defs"):
            found += [inner for each in value.values() for inner in _objects(each)]
    return found
