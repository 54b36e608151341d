"""Running a chat template that came with somebody's model: Jinja in a sandbox, bounded in time and size.

The language is the one transformers gives its templates (trim_blocks, lstrip_blocks, break/continue, tojson,
raise_exception, strftime_now, generation tags), so what it renders is equal. On top of Jinja's immutable sandbox, every
turn of a loop and every call looks at the clock, and nothing may build a text longer than MAX_TEXT; string methods and
filters that exist only to blow text up (center, zfill, format, ...) are left out, and a template that wants one is
refused by its name.
"""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from ingot.core.errors import fail

MAX_TEXT = 1 << 24
"""Characters a template may build in one text, and items in one list."""
MAX_SOURCE = 1 << 20
"""Characters of a template's own source."""
MAX_SECONDS = 5.0
"""A render of a long conversation takes milliseconds."""
MAX_BITS = 1024
"""Of a whole number a template computes."""

METHODS: dict[type, str] = {
    str: "capitalize casefold count endswith find index isalnum isalpha isdecimal isdigit islower isnumeric isspace "
    "istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit "
    "rstrip split splitlines startswith strip swapcase title upper",
    dict: "copy get items keys values",
    list: "copy count index",
    tuple: "count index",
    int: "",
    float: "",
    bool: "",
}
"""What a template may call on plain data; whatever could blow a text up without a bound is not among them."""
FILTERS = (
    "abs attr capitalize count d default dictsort e escape first float groupby int items last length list lower map "
    "max min reject rejectattr reverse round safe select selectattr sort string sum title trim truncate unique upper"
)
"""Jinja's own filters that stay; tojson, join, replace and indent have a bounded form here."""

_DEADLINE: ContextVar[float] = ContextVar("deadline")


class TemplateLimitError(jinja2.TemplateError):
    """The template asked for more time or text than any honest one needs."""


class Generation(Extension):
    """`{% generation %}...{% endgeneration %}`: what the assistant produced, put between the two `generation_marks`."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own way to declare it)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        marks = nodes.Name("generation_marks", "load")
        begin, end = (nodes.Output([nodes.Getitem(marks, nodes.Const(at), "load")]) for at in (0, 1))
        return nodes.Scope([begin, *body, end]).set_lineno(line)


class _Bounds(NodeTransformer):
    """Make loops look at the clock and `~` look at its size."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "bounded_loop", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "bounded_concat", [], [], None, None, lineno=node.lineno)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as chat templates know it, bounded."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
        self.filters = {name: self.filters[name] for name in FILTERS.split()}
        self.filters |= {"tojson": _tojson, "bounded_loop": _loop, "bounded_concat": _concat, "join": _join_filter,
                         "replace": _replace, "indent": _indent}  # fmt: skip
        self.globals = {"range": self.globals["range"], "namespace": _Namespace, "dict": dict,
                        "raise_exception": _raise}  # fmt: skip
        self.concat = bounded_join  # type: ignore[method-assign]

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        bounded = _Bounds().visit(source)
        generated: str = super()._generate(bounded, *args, **kwargs)
        return generated

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        allowed = METHODS.get(type(obj))
        return attr in allowed.split() if allowed is not None else super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        check_clock()
        bounded = _METHOD_BOUNDS.get(getattr(__obj, "__name__", "")) if isinstance(_owner(__obj), str) else None
        if bounded is not None:
            return bounded(_owner(__obj), *args, **kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_operands(operator, left, right)
        return super().call_binop(context, operator, left, right)


@lru_cache(maxsize=32)
def compile_template(source: str) -> jinja2.Template:
    """Compile, once for each source. Raises `bad-template` with the line and what is wrong there."""
    if len(source) > MAX_SOURCE:
        raise fail("bad-template", line=1, reason=f"{len(source)} characters, at most {MAX_SOURCE}")
    try:
        return ChatEnvironment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise fail("bad-template", line=error.lineno, reason=error.message) from error
    except (jinja2.TemplateError, RecursionError, MemoryError, OverflowError) as error:
        raise fail("bad-template", line=1, reason=str(error) or type(error).__name__) from error


def run_template(source: str, variables: dict[str, Any]) -> str:
    """Render. Raises `template-refused` when the template itself raises, `template-limit` when it runs away."""
    template = compile_template(source)
    variables = {"strftime_now": frozen_clock(), **variables}
    token = _DEADLINE.set(time.monotonic() + MAX_SECONDS)
    try:
        return template.render(**variables)
    except (TemplateLimitError, MemoryError, RecursionError) as error:
        raise fail("template-limit", reason=str(error) or type(error).__name__) from error
    except jinja2.TemplateError as error:
        raise fail("template-refused", reason=error.message or str(error)) from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise fail("template-refused", reason=f"{type(error).__name__}: {error}") from error
    finally:
        _DEADLINE.reset(token)


@lru_cache(maxsize=32)
def template_variables(source: str) -> frozenset[str]:
    """Names the template expects from outside, such as `tools`."""
    return frozenset(_find_names(ChatEnvironment().parse(source)))


def has_generation(source: str) -> bool:
    """Does the template say itself what the assistant produces?"""
    return "generation_marks" in template_variables(source)


def _find_names(tree: nodes.Template) -> Iterator[str]:
    return (name.name for name in tree.find_all(nodes.Name) if name.ctx == "load")


def check_clock() -> None:
    if time.monotonic() > _DEADLINE.get(float("inf")):
        raise TemplateLimitError(f"it ran for more than {MAX_SECONDS:g} seconds")


def check_size(size: int) -> None:
    if size > MAX_TEXT:
        raise TemplateLimitError(f"it builds a text of more than {MAX_TEXT} characters")


def bounded_join(parts: Iterable[str]) -> str:
    """`"".join` that stops at MAX_TEXT: Jinja joins every block, macro and the whole with it."""
    kept: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        check_size(size)
        kept.append(part)
    return "".join(kept)


def _loop(items: Any) -> Any:
    """What a loop runs over, looking at the clock on every turn; sized things stay sized for loop.length."""
    if isinstance(items, jinja2.Undefined) or not hasattr(items, "__iter__"):
        return items
    return _Timed(items)


class _Timed:
    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            check_clock()
            yield item

    def __len__(self) -> int:
        return len(self._items)


def _concat(parts: list[Any]) -> str:
    return bounded_join(map(str, parts))


def _join(separator: str, items: Iterable[Any]) -> str:
    texts = [str(item) for item in items]
    check_size(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _join_method(separator: str, items: Iterable[Any]) -> str:
    texts = list(items)
    check_size(sum(len(text) for text in texts if isinstance(text, str)) + len(separator) * len(texts))
    return separator.join(texts)


def _join_filter(items: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    if attribute is not None:
        items = (item.get(attribute, "") for item in items if isinstance(item, dict))
    return _join(str(d), items)


def _replace(value: Any, old: str, new: str, count: int = -1) -> str:
    text = str(value)
    times = text.count(old) if count < 0 else min(count, text.count(old))
    check_size(len(text) + times * len(new))
    return text.replace(old, new, count)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    from jinja2.filters import do_indent

    size = len(width) if isinstance(width, str) else width
    check_size(len(text) + (text.count("\n") + 1) * size)
    return str(do_indent(text, width, first, blank))


_METHOD_BOUNDS: dict[str, Callable[..., str]] = {"join": _join_method, "replace": _replace}


def _owner(method: Any) -> Any:
    return getattr(method, "__self__", None)


def _check_operands(operator: str, left: Any, right: Any) -> None:
    """Refuse what would build a huge text, list or number, before it is built."""
    sizes = [len(side) if isinstance(side, str | list | tuple) else None for side in (left, right)]
    if operator == "%" and isinstance(left, str) and re.search(r"%[^a-zA-Z%]*(\d{4}|\*)", left):
        raise TemplateLimitError("it pads a text to a great width")
    if operator == "+" and None not in sizes:
        check_size(sum(size for size in sizes if size is not None))
    if operator == "*":
        for size, times in zip(sizes, (right, left), strict=True):
            if size is not None and isinstance(times, int):
                check_size(size * times)
    if operator in {"*", "**"} and isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_BITS:
            raise TemplateLimitError("it computes a huge number")


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None,
            sort_keys: bool = False) -> str:  # fmt: skip
    """transformers' tojson: no HTML escapes, Chinese as it is."""
    if isinstance(indent, int) and indent > 64:
        raise TemplateLimitError("it indents by a great width")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def frozen_clock() -> Callable[[str], str]:
    """`strftime_now` that stands still: however often a conversation is rendered, it is rendered at one moment."""
    moment = datetime.datetime.now()

    def strftime_now(format: str) -> str:
        if re.search(r"%[^a-zA-Z%]*\d{3}", format):
            raise TemplateLimitError("it pads a date to a great width")
        return moment.strftime(format)

    return strftime_now


class _Namespace(jinja2.utils.Namespace):
    """`namespace()` that refuses names with a leading underscore."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _check_name(name)
        super().__init__(attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")
