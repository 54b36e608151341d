"""Which texts a constraint takes, found byte by byte: the grammar's verdict and the proof's, which must agree."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from ingot.infer.constraint.compile import Constraints
from ingot.infer.constraint.options import Constraint
from ingot.text.token_bytes import read_token_bytes
from ingot.text.tokenizer import Tokenizer
from tiny import write_tokenizer

END = frozenset([0])


@cache
def constraints() -> Constraints:
    """Over the tiny byte-level tokenizer."""
    return Constraints(Tokenizer.open(write_tokenizer(Path(mkdtemp(prefix="ingot-test-")) / "tok")))


@cache
def byte_ids() -> dict[int, int]:
    whole = read_token_bytes(constraints()._tokenizer).whole
    return {own[0]: id for id, own in enumerate(whole) if len(own) == 1}


def takes(text: str, **constraint: Any) -> bool:
    """Does the grammar read this text and may it end there? Masks, acceptance and proof must say the same."""
    asked = Constraint(**constraint)
    matcher = constraints().matcher(asked, END, is_first=False)
    for byte in text.encode():
        token = byte_ids()[byte]
        is_allowed = bool(matcher.allowed()[token])
        if not is_allowed:
            assert not matcher.accept(token)
            return False
        assert matcher.accept(token)
    assert bool(matcher.allowed()[0]) == matcher.may_end
    if matcher.may_end:
        assert matcher.prove(text) is None
    return matcher.may_end


def refusal(**constraint: Any) -> str:
    """What is said when this is asked for."""
    from ingot import IngotError

    try:
        constraints().compiled(Constraint.of(**constraint))
    except IngotError as error:
        return str(error)
    return ""
