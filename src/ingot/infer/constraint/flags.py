"""What an answer's text must be, as flags of the command line: schemas and grammars are files there."""

from __future__ import annotations

from pathlib import Path

from ingot.core.errors import fail
from ingot.core.model_dir import read_json
from ingot.core.options import Options, option
from ingot.infer.constraint.options import Constraint


class ConstraintFlags(Options):
    """At most one of them."""

    json_object: bool = option(False, "the answer is a JSON object", plain=True)
    json_schema: Path | None = option(None, "the answer is JSON of the schema in this file", plain=True)
    regex: str | None = option(None, "the answer matches this regular expression from end to end", plain=True)
    grammar: Path | None = option(None, "the answer is of the grammar in this file (Lark, or GBNF)", plain=True)
    choice: list[str] = option([], "the answer is one of these (may be given several times)", plain=True)


def constraint_of(flags: ConstraintFlags) -> Constraint | None:
    """What the flags ask for, None for nothing. Raises `bad-json`, `no-such-file`, `bad-option`."""
    given = flags.model_dump(exclude_defaults=True)
    if not given:
        return None
    if flags.json_schema is not None:
        given["json_schema"] = read_json(flags.json_schema)
    if flags.grammar is not None:
        given["grammar"] = _text(flags.grammar)
    return Constraint.of(**given)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise fail("no-such-file", path=path) from None
    except UnicodeDecodeError as error:
        raise fail("grammar-refused", reason=f"{path} is not UTF-8 ({error.reason} at byte {error.start})") from None
