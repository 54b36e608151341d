"""A JSON Schema (draft 2020-12) as the grammar can hold it to the letter, or a refusal that names the place.

llguidance ignores keywords it does not know, reads bounds as 64-bit floats, and takes formats and patterns its own way.
So nothing is handed to it as it came: every keyword is looked up here, checked, and written anew from those that are
truly enforced; what describes only is left out; anything else is refused with its JSON pointer before a token is made.
The same rewritten schema goes to the grammar and to the check of the finished text.

Works with a list of places instead of recursion, so that no depth of nesting can exhaust the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from ingot.core.errors import IngotError
from ingot.infer.constraint.formats import FORMATS
from ingot.infer.constraint.refusal import pointer_to, refused, shown
from ingot.infer.constraint.values import VALUES, check_text, pattern

MAX_DEPTH = 64
"""Schemas inside schemas."""
MAX_LINKS = 32
"""References (and branches) that lead on to others before a value comes."""
MAX_NODES = 20_000
"""Schemas and enumerated values in one schema."""
MAX_PROPERTIES = 400
"""Properties of one object: more would be too many ways to go on at one place."""
FORMAT = "x-ingot-format"
"""The keyword under which a checked format stands in the rewritten schema."""
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
    """A schema inside the schema: its JSON pointer, how deep it lies, and where its new form goes: into[key]."""

    schema: Any
    pointer: str
    depth: int
    into: Any
    key: Any


def read_schema(schema: Any, strict: bool = False, base: str = "") -> Any:
    """The schema rewritten: only keywords that are enforced, patterns in the plain dialect, formats as they are.
    `base`: where the schema will stand in a larger one. Raises `schema-refused` naming the pointer."""
    found: list[Any] = [None]
    places = [Place(schema, "", 0, found, 0)]
    links: dict[str, list[tuple[str, str]]] = {}
    count = 0
    while places:
        place = places.pop()
        values = place.schema.get("enum") if isinstance(place.schema, dict) else None
        count += 1 + (len(values) if isinstance(values, list) else 0)
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
            self.place.into[self.place.key] = schema
            return []
        if not isinstance(schema, dict):
            raise refused(self.place.pointer, f"a schema is an object, true or false; found {shown(schema)}")
        for name, value in schema.items():
            self.keyword(name, value)
        if self.strict:
            self.require_strict(schema)
        self.settle(schema)
        self.place.into[self.place.key] = self.new
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
            self.new[name] = VALUES[name](value, self.pointer(name))
        elif name == "$ref":
            self.new[name] = self.reference(name, value)
        elif name in SCHEMAS:
            SCHEMAS[name](self, name, value)
        else:
            raise self.wrong(name, f"the keyword {name!r} is not enforced here; remove it, or say it otherwise")

    def head(self, name: str, value: Any) -> None:
        """Who the whole schema says it is: read as draft 2020-12 where the drafts agree."""
        if self.place.pointer:
            raise self.wrong(name, f"{name!r} is only supported at the top")
        if name == "$schema" and not (isinstance(value, str) and value.rstrip("#").endswith(DRAFTS)):
            raise self.wrong(name, f"expected draft 2020-12 (or 2019-09, 7, 6); found {shown(value)}")

    # ---- schemas inside

    def one(self, name: str, value: Any) -> None:
        if isinstance(value, list):
            raise self.wrong(name, f"{name!r} is one schema in draft 2020-12; a list of them is 'prefixItems'")
        self.descend(value, self.pointer(name), self.new, name)

    def many(self, name: str, value: Any) -> None:
        if not isinstance(value, list) or not value:
            raise self.wrong(name, f"expected a list of schemas; found {shown(value)}")
        self.new[name] = news = [None] * len(value)
        for at, schema in enumerate(value):
            if name != "prefixItems":
                self.links.append((self.pointer(name, at), self.pointer(name, at)))
            self.descend(schema, self.pointer(name, at), news, at)

    def named(self, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise self.wrong(name, f"expected an object of schemas; found {shown(value)}")
        if name == "properties" and len(value) > MAX_PROPERTIES:
            raise self.wrong(name, f"an object has more than {MAX_PROPERTIES} properties")
        self.new[name] = news = dict.fromkeys(value)
        for key, schema in value.items():
            check_text(key, self.pointer(name))
            self.descend(schema, self.pointer(name, key), news, key)

    def by_pattern(self, name: str, value: Any) -> None:
        """Keys are patterns, and are written in the plain dialect."""
        if not isinstance(value, dict):
            raise self.wrong(name, f"expected an object of schemas; found {shown(value)}")
        news: dict[str, Any] = {}
        self.new[name] = news
        for key, schema in value.items():
            plain = pattern(key, self.pointer(name, key))
            if plain in news:
                raise refused(self.pointer(name, key), "another key is the same pattern")
            news[plain] = None
            self.descend(schema, self.pointer(name, key), news, plain)

    def descend(self, schema: Any, pointer: str, into: Any, key: Any) -> None:
        self.inner.append(Place(schema, pointer, self.place.depth + 1, into, key))

    def reference(self, name: str, value: Any) -> Any:
        """Only inside the schema, by JSON pointer."""
        if not isinstance(value, str) or (value != "#" and not value.startswith("#/")):
            raise self.wrong(name, f"expected a pointer into this schema, such as #/$defs/x; found {shown(value)}")
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


def _are_distinct(branches: list[Any]) -> bool:
    """Is each branch of a oneOf a list of constants, and none of them in two branches?"""
    lists = []
    for branch in branches:
        if not isinstance(branch, dict) or len(branch.keys() & {"const", "enum"}) != 1:
            return False
        values = branch["enum"] if "enum" in branch else [branch["const"]]
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            return False
        lists.append(set(values))
    return sum(map(len, lists)) == len(set().union(*lists))


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
"""With VALUES and $ref: all that is enforced."""


def parts(schema: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Every schema inside a rewritten one with its pointer, outer ones first."""
    yield pointer, schema
    for name, value in schema.items() if isinstance(schema, dict) else ():
        if SCHEMAS.get(name) is _Rewriting.one:
            yield from parts(value, pointer + pointer_to(name))
        elif name in SCHEMAS:
            inside: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
            for key, each in inside:
                yield from parts(each, pointer + pointer_to(name, key))
