"""A JSON Schema (draft 2020-12) as the grammar can hold it to the letter, or a refusal that names the place.

llguidance ignores keywords it does not know, reads bounds as 64-bit floats, and takes formats and patterns its own way.
So nothing is handed to it as it came: every keyword is looked up here, checked, and written anew from those that are
truly enforced; what describes only is left out; anything else is refused with its JSON pointer before a token is made.
The same rewritten schema goes to the grammar and to the check of the finished text.

Works with a list of places instead of recursion, so that no depth of nesting can exhaust the stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any
from urllib.parse import unquote

from ingot.core.errors import IngotError, fail
from ingot.infer.constraint.formats import FORMATS
from ingot.infer.constraint.patterns import read_pattern
from ingot.text.tokenizer import SURROGATE

MAX_DEPTH = 64
"""Schemas inside schemas."""
MAX_LINKS = 32
"""References (and branches) that lead on to others before a value comes."""
MAX_NODES = 20_000
"""Schemas and enumerated values in one schema."""
MAX_PROPERTIES = 400
"""Properties of one object: more would be too many ways to go on at one place."""
MAX_INTEGER = 2**53
"""Bounds are read as 64-bit floats, which hold every integer up to here."""
MAX_DIGITS = 15
"""Decimal digits that a 64-bit float holds."""
MIN_EXPONENT = -12
"""Digits behind the point."""
FORMAT = "x-ingot-format"
"""The keyword under which a checked format stands in the rewritten schema."""
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
DRAFTS = ("2020-12/schema", "2019-09/schema", "draft-07/schema", "draft-06/schema")

ANNOTATIONS = frozenset(
    ("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly")
)
"""Say nothing about which texts are right."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "uniqueItems": (False,),
    "nullable": (False,),
    "propertyNames": (True, {}),
    "unevaluatedProperties": (True, {}),
    "unevaluatedItems": (True, {}),
    "additionalItems": (True, {}),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "not": (False,),
}
"""Keywords that are not enforced, with the values that ask for nothing."""


@dataclass(frozen=True)
class Place:
    """A schema inside the schema: its JSON pointer, how deep it lies, and where its new form goes."""

    schema: Any
    pointer: str
    depth: int
    put: Callable[[Any], None]


def pointer_to(*steps: object) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def refused(pointer: str, reason: str) -> IngotError:
    """The error for a place in a schema."""
    return fail("schema-refused", pointer=pointer, reason=reason)


def read_schema(schema: Any, strict: bool = False, base: str = "") -> Any:
    """The schema rewritten: only keywords that are enforced, patterns in the plain dialect, formats as they are.
    `base`: where the schema will stand in a larger one. Raises `schema-refused` naming the pointer."""
    found: list[Any] = []
    places = [Place(schema, "", 0, found.append)]
    links: dict[str, list[tuple[str, str]]] = {}
    count = 0
    while places:
        place = places.pop()
        count += 1 + len(place.schema.get("enum") or ()) if isinstance(place.schema, dict) else 1
        if place.depth > MAX_DEPTH:
            raise refused(place.pointer, f"schemas are nested more than {MAX_DEPTH} deep")
        if count > MAX_NODES:
            raise refused(place.pointer, f"the schema has more than {MAX_NODES} parts")
        here = _Rewriting(place, strict, base)
        places += here.run()
        links[place.pointer] = here.links
    check_links(links)
    return found[0]


def check_links(links: dict[str, list[tuple[str, str]]]) -> None:
    """`links`: for each schema, those that say something of the same value, with the place that says so. Every
    reference leads to a schema, and none comes back to where it began without a value in between."""
    done: set[str] = set()
    for start in links:
        path, opened = [start], {start: iter(links[start])}
        while path:
            step = next(opened[path[-1]], None)
            if step is None:
                done.add(path[-1])
                del opened[path.pop()]
                continue
            place, target = step
            if target not in links:
                raise refused(place, f"#{target} is no schema inside this one")
            if target in opened:
                raise refused(place, f"#{target} refers to itself with no value in between")
            if target not in done:
                if len(path) == MAX_LINKS:
                    raise refused(place, f"more than {MAX_LINKS} schemas refer to each other with no value in between")
                path.append(target)
                opened[target] = iter(links[target])


class _Rewriting:
    """One schema object: every keyword checked and rewritten; `inner` collects the schemas inside it."""

    def __init__(self, place: Place, strict: bool, base: str) -> None:
        self.place, self.strict, self.base = place, strict, base
        self.inner: list[Place] = []
        self.links: list[tuple[str, str]] = []
        self.new: dict[str, Any] = {}

    def run(self) -> list[Place]:
        """Puts the new form where it belongs; gives the schemas inside, last first, so that the first is next."""
        schema = self.place.schema
        if isinstance(schema, bool):
            self.place.put(schema)
            return []
        if not isinstance(schema, dict):
            raise refused(self.place.pointer, f"a schema is an object, true or false; found {_shown(schema)}")
        for name, value in schema.items():
            self.keyword(name, value)
        if self.strict:
            self.require_strict(schema)
        self.settle(schema)
        self.place.put(self.new)
        return self.inner[::-1]

    def pointer(self, *steps: object) -> str:
        return self.place.pointer + pointer_to(*steps)

    def wrong(self, name: str, reason: str) -> IngotError:
        return refused(self.pointer(name), reason)

    def keyword(self, name: str, value: Any) -> None:
        if name in ANNOTATIONS or any(type(value) is type(none) and value == none for none in NEUTRAL.get(name, ())):
            return
        if name in ("$schema", "$id"):
            self.head(name, value)
        elif name in VALUES:
            self.new[name] = VALUES[name](self, name, value)
        elif name in SCHEMAS:
            SCHEMAS[name](self, name, value)
        else:
            raise self.wrong(name, f"the keyword {name!r} is not enforced here; remove it, or say it otherwise")

    def head(self, name: str, value: Any) -> None:
        """Who the whole schema says it is: read as draft 2020-12 where the drafts agree."""
        if self.place.pointer:
            raise self.wrong(name, f"{name!r} is only supported at the top")
        if name == "$schema" and not (isinstance(value, str) and value.rstrip("#").endswith(DRAFTS)):
            raise self.wrong(name, f"expected draft 2020-12 (or 2019-09, 7, 6); found {_shown(value)}")

    # ---- schemas inside

    def one(self, name: str, value: Any) -> None:
        if isinstance(value, list):
            raise self.wrong(name, f"{name!r} is one schema in draft 2020-12; a list of them is 'prefixItems'")
        self.descend(value, [name], lambda new: self.new.__setitem__(name, new))

    def many(self, name: str, value: Any) -> None:
        if not isinstance(value, list) or not value:
            raise self.wrong(name, f"expected a list of schemas; found {_shown(value)}")
        self.new[name] = news = [None] * len(value)
        for at, schema in enumerate(value):
            if name != "prefixItems":
                self.links.append((self.pointer(name, at), self.pointer(name, at)))
            self.descend(schema, [name, at], lambda new, at=at: news.__setitem__(at, new))  # type: ignore[misc]

    def named(self, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise self.wrong(name, f"expected an object of schemas; found {_shown(value)}")
        if name == "properties" and len(value) > MAX_PROPERTIES:
            raise self.wrong(name, f"an object has more than {MAX_PROPERTIES} properties")
        self.new[name] = news = dict.fromkeys(value)
        for key, schema in value.items():
            _check_text(key, self.pointer(name))
            self.descend(schema, [name, key], lambda new, key=key: news.__setitem__(key, new))  # type: ignore[misc]

    def by_pattern(self, name: str, value: Any) -> None:
        """Keys are patterns, and are written in the plain dialect."""
        if not isinstance(value, dict):
            raise self.wrong(name, f"expected an object of schemas; found {_shown(value)}")
        news: dict[str, Any] = {}
        self.new[name] = news
        for key, schema in value.items():
            plain = self.plain(key, self.pointer(name, key))
            if plain in news:
                raise refused(self.pointer(name, key), "another key is the same pattern")
            news[plain] = None
            self.descend(schema, [name, key], lambda new, key=plain: news.__setitem__(key, new))  # type: ignore[misc]

    def descend(self, schema: Any, steps: list[object], put: Callable[[Any], None]) -> None:
        self.inner.append(Place(schema, self.pointer(*steps), self.place.depth + 1, put))

    # ---- values

    def type(self, name: str, value: Any) -> Any:
        names = value if isinstance(value, list) else [value]
        unknown = [each for each in names if each not in TYPES]
        if unknown or not names:
            raise self.wrong(name, f"expected {', '.join(TYPES)}, or a list of them; found {_shown(value)}")
        return value

    def values(self, name: str, value: Any) -> Any:
        if not isinstance(value, list) or not value:
            raise self.wrong(name, f"expected a list with at least one value; found {_shown(value)}")
        for at, each in enumerate(value):
            self.constant(name, each, at)
        return value

    def constant(self, name: str, value: Any, *steps: object) -> Any:
        """Any value whose numbers stay what they are and whose text is text."""
        open_values, pointer = [value], self.pointer(name, *steps)
        depth = 0
        while open_values:
            depth += 1
            if depth > MAX_DEPTH:
                raise refused(pointer, f"a value is nested more than {MAX_DEPTH} deep")
            for each in open_values:
                _check_constant(each, pointer)
            inside = [list(each.values()) + list(each) if isinstance(each, dict) else each
                      for each in open_values if isinstance(each, dict | list)]  # fmt: skip
            open_values = [each for group in inside for each in group]
        return value

    def required(self, name: str, value: Any) -> Any:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.wrong(name, f"expected a list of names; found {_shown(value)}")
        for each in value:
            _check_text(each, self.pointer(name))
        return list(dict.fromkeys(value))

    def count(self, name: str, value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 <= value <= 2**31:
            raise self.wrong(name, f"expected a count from 0 to {2**31}; found {_shown(value)}")
        return value

    def bound(self, name: str, value: Any) -> Any:
        if type(value) not in (int, float) or not is_exact(value):
            raise self.wrong(name, f"expected a number of at most {MAX_DIGITS} digits; found {_shown(value)}")
        if name == "multipleOf" and value <= 0:
            raise self.wrong(name, f"expected a number above 0; found {_shown(value)}")
        return value

    def pattern(self, name: str, value: Any) -> Any:
        if not isinstance(value, str):
            raise self.wrong(name, f"expected a regular expression; found {_shown(value)}")
        return self.plain(value, self.pointer(name))

    def plain(self, source: str, pointer: str) -> str:
        try:
            return f"^(?:{read_pattern(source, whole=False).text})$"
        except ValueError as error:
            raise refused(pointer, str(error)) from None

    def format(self, name: str, value: Any) -> Any:
        if not isinstance(value, str) or value not in FORMATS:
            raise self.wrong(name, f"the format {_shown(value)} is not enforced here; known: {', '.join(FORMATS)}")
        return value

    def reference(self, name: str, value: Any) -> Any:
        """Only inside the schema, by JSON pointer."""
        if not isinstance(value, str) or (value != "#" and not value.startswith("#/")):
            raise self.wrong(name, f"expected a pointer into this schema, such as #/$defs/x; found {_shown(value)}")
        self.links.append((self.pointer(name), unquote(value[1:])))
        return f"#{self.base}{value[1:]}"

    # ---- what keywords say together

    def settle(self, schema: dict[str, Any]) -> None:
        """Keywords that the grammar takes only in another form."""
        required = len(self.new.get("required", ()))
        if self.new.get("minProperties", 0) <= required:
            self.new.pop("minProperties", None)
        elif self.new["minProperties"] > 1:
            reason = "more than 1 and more than what is 'required': the same name could be counted twice"
            raise self.wrong("minProperties", reason)
        if self.new.get("maxProperties", -1) >= len(schema.get("properties", ())) and self.is_closed(schema):
            del self.new["maxProperties"]
        if "format" in self.new:
            self.enforce_format(self.new.pop("format"))
        if "oneOf" in self.new and _are_distinct(schema["oneOf"]):
            self.rename("oneOf", "anyOf")

    def is_closed(self, schema: dict[str, Any]) -> bool:
        """Are there no properties but those that are listed?"""
        return schema.get("additionalProperties") is False and not schema.get("patternProperties")

    def enforce_format(self, name: str) -> None:
        """Its pattern for the grammar, and its name, under which the check knows it and llguidance does not."""
        self.new[FORMAT] = name
        self.beside("pattern", f"^(?:{FORMATS[name].pattern.text})$")

    def rename(self, old: str, new: str) -> None:
        """One of several constants is any of them; a keyword of that name stands beside it in an allOf."""
        self.beside(new, self.new.pop(old))

    def beside(self, name: str, value: Any) -> None:
        """Add a keyword; where it is there already, in an allOf beside it."""
        if name in self.new:
            self.new.setdefault("allOf", []).append({name: value})
        else:
            self.new[name] = value

    def require_strict(self, schema: dict[str, Any]) -> None:
        """What OpenAI asks of `strict`: no further properties, all of them required."""
        if "properties" not in schema and schema.get("type") != "object":
            return
        if schema.get("additionalProperties") is not False:
            raise self.wrong("additionalProperties", "'strict' asks for additionalProperties: false in every object")
        missing = [name for name in schema.get("properties", ()) if name not in schema.get("required", ())]
        if missing:
            raise self.wrong("required", f"'strict' asks for every property to be required; missing: {missing[0]!r}")


def is_exact(value: float) -> bool:
    """Is this number the same in decimal and as a 64-bit float?"""
    if isinstance(value, int):
        return abs(value) <= MAX_INTEGER
    if not isfinite(value) or abs(value) > MAX_INTEGER:
        return False
    _, digits, exponent = Decimal(repr(value)).as_tuple()
    return len(digits) <= MAX_DIGITS and int(exponent) >= MIN_EXPONENT


def _check_text(text: str, pointer: str) -> None:
    if not text.isascii() and SURROGATE.search(text):
        raise refused(pointer, "it holds half a character (a lone surrogate)")


def _check_constant(value: Any, pointer: str) -> None:
    if isinstance(value, str):
        _check_text(value, pointer)
    elif type(value) in (int, float):
        if not is_exact(value):
            raise refused(pointer, f"expected numbers of at most {MAX_DIGITS} digits; found {_shown(value)}")
    elif value is not None and not isinstance(value, bool | list | dict):
        raise refused(pointer, f"{_shown(value)} is no JSON value")
    elif isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise refused(pointer, "the names in an object are strings")


def _are_distinct(branches: list[Any]) -> bool:
    """Is each branch of a oneOf a list of constants, and none of them in two branches?"""
    lists = []
    for branch in branches:
        if not isinstance(branch, dict) or len(branch.keys() & {"const", "enum"}) != 1:
            return False
        values = branch["enum"] if "enum" in branch else [branch["const"]]
        if not all(isinstance(value, str) for value in values):
            return False
        lists.append(set(values))
    return sum(map(len, lists)) == len(set().union(*lists))


def _shown(value: Any) -> str:
    return f"{value!r:.60}"


Rewriter = Callable[[_Rewriting, str, Any], Any]

VALUES: dict[str, Rewriter] = {
    "$ref": _Rewriting.reference,
    "type": _Rewriting.type,
    "enum": _Rewriting.values,
    "const": _Rewriting.constant,
    "required": _Rewriting.required,
    "minProperties": _Rewriting.count,
    "maxProperties": _Rewriting.count,
    "minItems": _Rewriting.count,
    "maxItems": _Rewriting.count,
    "minLength": _Rewriting.count,
    "maxLength": _Rewriting.count,
    "pattern": _Rewriting.pattern,
    "format": _Rewriting.format,
    "minimum": _Rewriting.bound,
    "maximum": _Rewriting.bound,
    "exclusiveMinimum": _Rewriting.bound,
    "exclusiveMaximum": _Rewriting.bound,
    "multipleOf": _Rewriting.bound,
}
SCHEMAS: dict[str, Callable[[_Rewriting, str, Any], None]] = {
    "$defs": _Rewriting.named,
    "definitions": _Rewriting.named,
    "anyOf": _Rewriting.many,
    "oneOf": _Rewriting.many,
    "allOf": _Rewriting.many,
    "properties": _Rewriting.named,
    "patternProperties": _Rewriting.by_pattern,
    "additionalProperties": _Rewriting.one,
    "items": _Rewriting.one,
    "prefixItems": _Rewriting.many,
}
"""Together: all that is enforced."""
