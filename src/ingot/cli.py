"""The command line: finds the verb in the table, builds its flags from its options class, prints the outcome.

Only the asked-for verb is imported, so `ingot --help` needs neither torch nor any verb. Sentences go to stdout,
progress to stderr, and the last line on stdout is one JSON object. Exit status: 0 done, 1 the user's mistake or a
failed gate, 2 a wrong command line, 130 interrupted.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

from ingot.core.errors import IngotError
from ingot.core.language import option_help, text, verb_help
from ingot.core.verbs import VERBS, find_verb, group_members

if TYPE_CHECKING:
    from ingot.core.options import Options, Verb

WRONG_COMMAND = {
    "unknown-verb",
    "verb-group",
    "unknown-option",
    "missing-option",
    "too-many-arguments",
    "bad-command-line",
}
"""Errors of the command line itself: exit status 2."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    _speak()
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        print(text("interrupted"), file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except IngotError as error:
        if debug:
            raise
        if not error.is_told:
            print(f"ingot: {error} [{error.code}]", file=sys.stderr)
        return 2 if error.code in WRONG_COMMAND else 1
    except Exception as error:
        if debug:
            raise
        print(f"ingot: {text('unexpected', reason=f'{type(error).__name__}: {error}')}", file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"--help", "-h", "help"}:
        print(overview(VERBS))
        return 0
    if arguments[0] not in VERBS and arguments[1:] in (["--help"], ["-h"]) and group_members(arguments[0]):
        print(overview(group_members(arguments[0])))
        return 0
    if arguments[0] == "--version":
        import importlib.metadata

        print(importlib.metadata.version("ingot"))
        return 0
    name, rest = split_verb(arguments)
    outcome = run_verb(name, find_verb(name), rest)
    if outcome is None:
        return 0
    summary = outcome.summary()
    print(json.dumps(summary, ensure_ascii=False, allow_nan=False, default=str), flush=True)
    return 1 if summary.get("passed") is False else 0


def split_verb(arguments: list[str]) -> tuple[str, list[str]]:
    """The longest verb the words begin with, and the remaining words. The first word of a group takes the next."""
    two = " ".join(arguments[:2])
    return (two, arguments[2:]) if two in VERBS or group_members(two) else (arguments[0], arguments[1:])


def overview(names: Collection[str]) -> str:
    """What `ingot --help` prints, of all verbs or those of a group: one line a verb."""
    width = max(map(len, names)) + 2
    lines = [f"  {name:<{width}}{verb_help(name)}" for name in names]
    return "\n".join([text("overview-head"), "", *lines, "", text("overview-tail")])


def run_verb(name: str, verb: Verb[Any, Any], arguments: list[str]) -> Any:
    """Parse the words into the verb's options and call it; None when only help was shown."""
    from cyclopts import App, CycloptsError

    from ingot.core.errors import fail

    app = App(name=f"ingot {name}", help=verb_help(name), version_flags=[], help_format="plaintext",
              result_action="return_value", exit_on_error=False, print_error=False)  # fmt: skip
    app.default(_function(name, verb))
    try:
        return app(arguments)
    except CycloptsError as error:
        raise _usage_error(error, name, verb.options, fail) from None


def _function(name: str, verb: Verb[Any, Any]) -> Any:
    """The verb as a function with a plain signature that cyclopts reads."""

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs).arguments
        return verb(**{key: value for key, value in bound.items() if value is not inspect.Parameter.empty})

    signature = inspect.Signature(_parameters(name, verb.options))
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _parameters(name: str, options: type[Options]) -> list[inspect.Parameter]:
    from cyclopts import Parameter

    positional = options.positional()
    parameters = []
    for field, info in options.model_fields.items():
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if field in positional else inspect.Parameter.KEYWORD_ONLY
        default = inspect.Parameter.empty if info.is_required() else info.get_default(call_default_factory=True)
        help = option_help(name, field, info.description or "")
        kind_of = _localised(info.annotation)
        annotation = Annotated[kind_of, Parameter(help=help, negative_iterable=())]  # type: ignore[valid-type]
        parameters.append(inspect.Parameter(field, kind, default=default, annotation=annotation))
    return sorted(parameters, key=lambda parameter: (parameter.kind, parameter.default is not inspect.Parameter.empty))


def _localised(annotation: Any) -> Any:
    """A group of options as a class whose fields carry help in the user's language; any other type as it is."""
    from cyclopts import Parameter

    from ingot.core.options import Options, is_plain

    if not (isinstance(annotation, type) and issubclass(annotation, Options)):
        return annotation
    group: type[Options] = type(annotation.__name__, (annotation,), {"__module__": annotation.__module__})
    for field, info in group.model_fields.items():
        info.description = option_help(annotation.__name__, field, info.description or "")
        info.metadata += [Parameter(name=f"--{field.replace('_', '-')}")] if is_plain(info) else []
    return group


def _usage_error(error: Any, name: str, options: type[Options], fail: Any) -> IngotError:
    """cyclopts' error as one of ours, with the nearest option."""
    from cyclopts import MissingArgumentError, UnknownOptionError
    from pydantic import ValidationError

    from ingot.core.errors import nearest
    from ingot.core.options import explain

    if isinstance(error, UnknownOptionError):
        word = error.token.keyword or error.token.value
        known = [f"--{field.replace('_', '-')}" for field in options.model_fields]
        return fail("unknown-option", name=word, nearest=nearest(word, known))  # type: ignore[no-any-return]
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return fail("missing-option", name=error.argument.name)  # type: ignore[no-any-return]
    if isinstance(error.__cause__, ValidationError):
        group: str = error.argument.name.lstrip("-") if error.argument else ""
        return explain(error.__cause__, options, group)
    return fail("bad-command-line", verb=name, reason=str(error).strip())  # type: ignore[no-any-return]


class Spoken(logging.Handler):
    """Sentences to whatever stdout is now, warnings to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr if record.levelno >= logging.WARNING else sys.stdout, flush=True)


def _speak() -> None:
    """Let the sentences of the "ingot" logger reach the user."""
    logger = logging.getLogger("ingot")
    if not logger.handlers:
        logger.addHandler(Spoken())
        logger.setLevel(logging.INFO)
        logger.propagate = False


if __name__ == "__main__":
    sys.exit(main())
