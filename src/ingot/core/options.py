"""One typed options class per verb: the Python signature, the command-line flags, the recipe keys and the help.

    class WorldOptions(Options):
        out: Path = argument("where to write")            # positional on the command line
        people: int = option(40, "how many invented people", ge=1)

    @verb(WorldOptions)
    def world(options: WorldOptions) -> Path: ...

`world(out="data/world", people=3)` from Python, `ingot world data/world --people 3` from the shell and
`{verb: world, people: 3}` in a recipe all build the same checked object; an unknown key is refused with the nearest
name everywhere. A verb returns something with `summary()`, a dict of plain JSON values: the last line on stdout.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingot.core.errors import IngotError, fail, nearest


class Options(BaseModel):
    """Base of every options class: frozen, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)

    @classmethod
    def positional(cls) -> list[str]:
        """Names of the fields that may be given by position, in order."""
        return [name for name, field in cls.model_fields.items() if _extra(field).get("positional")]

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> Self:
        """Check and build. Raises IngotError naming the option, what was found and what was expected."""
        values = cls._bind(args) | kwargs
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise explain(error, cls) from None

    @classmethod
    def _bind(cls, args: tuple[Any, ...]) -> dict[str, Any]:
        """Positional values to their names; a list field takes all that is left."""
        values: dict[str, Any] = {}
        rest = list(args)
        for name in cls.positional():
            if not rest:
                return values
            if get_origin(cls.model_fields[name].annotation) is list:
                first = rest[0]
                values[name] = list(first) if isinstance(first, list | tuple) else [rest.pop(0) for _ in list(rest)]
                rest = rest[1:] if isinstance(first, list | tuple) else rest
            else:
                values[name] = rest.pop(0)
        if rest:
            raise fail("too-many-arguments", extra=" ".join(map(str, rest)), known=", ".join(cls.positional()) or "-")
        return values


def argument(help: str, **limits: Any) -> Any:
    """A required option that may be given by position."""
    return Field(description=help, json_schema_extra={"positional": True}, **limits)


def optional_argument(default: Any, help: str, **limits: Any) -> Any:
    """An option that may be given by position, with a default."""
    return Field(default=default, description=help, json_schema_extra={"positional": True}, **limits)


def required(help: str, **limits: Any) -> Any:
    """A required option given by name."""
    return Field(description=help, **limits)


def option(default: Any, help: str, *, plain: bool = False, **limits: Any) -> Any:
    """An option with a default, given by name. `limits` are pydantic's: ge, gt, le, lt, pattern. On the command line a
    `plain` one of a group goes without the group's name."""
    return Field(default=default, description=help, json_schema_extra={"plain": True} if plain else None, **limits)


class Outcome(Protocol):
    """What a verb returns."""

    def summary(self) -> dict[str, Any]:
        """Plain JSON values: the last line the command line prints, and what recipe gates read."""


O = TypeVar("O", bound=Options)  # noqa: E741
R = TypeVar("R", bound=Outcome)


class Verb(Generic[O, R]):
    """A function from options to an outcome, callable with an options object or with plain arguments."""

    def __init__(self, function: Callable[[O], R], options: type[O]) -> None:
        self.function = function
        self.options = options
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        if len(args) == 1 and isinstance(args[0], self.options) and not kwargs:
            return self.function(args[0])
        return self.function(self.options.of(*args, **kwargs))


def verb(options: type[O]) -> Callable[[Callable[[O], R]], Verb[O, R]]:
    """Decorator: make `function(options)` a verb."""
    return lambda function: Verb(function, options)


def is_plain(field: Any) -> bool:
    """Is an option of a group asked for without the group's name?"""
    return bool(_extra(field).get("plain"))


def _extra(field: Any) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def explain(error: ValidationError, options: type[BaseModel], group: str = "") -> IngotError:
    """The first problem pydantic found, as one sentence; `group`: what options of a group have before their names."""
    problem = error.errors(include_url=False)[0]
    name = ".".join([*([group] if group else []), *(str(part) for part in problem["loc"])])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(options, problem["loc"][:-1])
        return fail("unknown-option", name=name, nearest=nearest(str(problem["loc"][-1]), known))
    if problem["type"] == "missing":
        return fail("missing-option", name=name)
    reason = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return fail("options-conflict", reason=reason)
    return fail("bad-option", name=name, found=repr(problem["input"])[:120], reason=reason)


def _fields_at(options: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The known keys of the (nested) options class that `path` leads to; a group may be optional."""
    current: Any = options
    for part in path:
        annotation = current.model_fields[str(part)].annotation if str(part) in current.model_fields else current
        groups = [group for group in (annotation, *get_args(annotation)) if isinstance(group, type)]
        current = next((group for group in groups if issubclass(group, BaseModel)), current)
    return list(current.model_fields)


def numbers_listed(found: object) -> list[float]:
    """ "0.3,0.7", or a list whose entries may hold commas, as numbers. Raises ValueError."""
    entries = found if isinstance(found, list | tuple) else [found]
    words = [word for entry in entries for word in str(entry).split(",") if word.strip()]
    try:
        return [float(word) for word in words]
    except ValueError:
        raise ValueError("expected numbers, for example 0.3,0.7") from None


def words_listed(found: object) -> object:
    """ "a,b", or a list whose entries may hold commas, as different words; anything else stays for the options to
    refuse."""
    entries = references_listed(found)
    if not isinstance(entries, list):
        return found
    words = [word.strip() for entry in entries for word in entry.split(",")]
    return list(dict.fromkeys(word for word in words if word))


def references_listed(found: object) -> object:
    """A reference or path, or several, as words; anything else stays for the options to refuse."""
    entries = [found] if isinstance(found, str | Path) else found
    return [str(entry) for entry in entries] if isinstance(entries, list | tuple) else found
