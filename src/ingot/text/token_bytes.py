"""The bytes each token stands for, where the text of some tokens is their bytes one after the other.

So it is for byte-level tokenizers, and for those that write a space as a sign of its own (sentencepiece), with or
without single bytes. There, a text may lose the space it begins with: `opening` has the bytes of the tokens for which
that makes a difference when they come first. Whether it is all true is tried on many runs of tokens; a tokenizer whose
decoder joins or cleans words (WordPiece) is refused by name.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ingot.core.errors import fail
from ingot.text.stream import BYTE_TOKEN, token_bytes

if TYPE_CHECKING:
    from ingot.text.tokenizer import Tokenizer

STEPS = {"Sequence", "ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"}
"""Decoders that say token by token what is written, but for a space at the beginning."""
TRIALS, RUN = 64, 24
"""Runs of tokens that are tried, and their length."""


@dataclass(frozen=True)
class TokenBytes:
    """`whole[id]`: the bytes of a token, b"" for special ones and holes. `opening[id]`: what it says as the first of a
    text, where that is something else."""

    whole: list[bytes]
    opening: dict[int, bytes] = field(default_factory=dict)

    def joined(self, ids: Sequence[int]) -> bytes:
        """What a text of these tokens is; none of the special ones among them."""
        first = (self.opening.get(id, self.whole[id]) for id in ids[:1])
        return b"".join([*first, *(self.whole[id] for id in ids[1:])])


def read_token_bytes(tokenizer: Tokenizer, shown: frozenset[int] = frozenset()) -> TokenBytes:
    """`shown`: special tokens that are part of the text. Raises `tokenizer-not-bytewise` with what its decoder is, or
    with a run of tokens for which it is not so."""
    silent = tokenizer.special_ids - shown
    names = ["" if id in silent else tokenizer.token(id) or "" for id in range(tokenizer.vocab_size)]
    names = ["" if tokenizer.nonce in name else name for name in names]  # a hole
    found = TokenBytes([*map(token_bytes, names)]) if tokenizer.is_byte_level else _with_spaces(tokenizer, names)
    _try(tokenizer, found, shown)
    return found


def _with_spaces(tokenizer: Tokenizer, names: list[str]) -> TokenBytes:
    steps = _steps(tokenizer.decoder)
    space = next((sign for step in steps if (sign := _space(step)) is not None), None)
    kinds = [str(step.get("type")) for step in steps]
    if space is None or not set(kinds) <= STEPS or kinds.count("Replace") > 1:
        reason = f"its decoder is {' + '.join(kinds) or 'none'}"
        raise fail("tokenizer-not-bytewise", path=tokenizer.path, reason=reason)
    is_bytes = tokenizer.has_byte_tokens
    whole = [_bytes(name, space, is_bytes) for name in names]
    first = {id: tokenizer.decode([id]).encode() for id, own in enumerate(whole) if own.startswith(b" ")}
    return TokenBytes(whole, {id: said for id, said in first.items() if said != whole[id]})


def _bytes(name: str, space: str, is_bytes: bool) -> bytes:
    if is_bytes and BYTE_TOKEN.fullmatch(name):
        return bytes([int(name[3:5], 16)])
    return name.replace(space, " ").encode()


def _steps(decoder: dict[str, Any]) -> list[dict[str, Any]]:
    """A decoder's parts in order."""
    inner = decoder.get("decoders") if decoder.get("type") == "Sequence" else None
    return [step for part in inner for step in _steps(part)] if inner is not None else [decoder] if decoder else []


def _space(step: dict[str, Any]) -> str | None:
    """The sign that this part of a decoder makes a space of."""
    if step.get("type") == "Metaspace":
        return str(step["replacement"])
    if step.get("type") == "Replace" and step.get("content") == " ":
        return str(step["pattern"].get("String"))
    return None


def _try(tokenizer: Tokenizer, found: TokenBytes, shown: frozenset[int]) -> None:
    """Runs of tokens decoded by the tokenizer and by their bytes. A run is tried where it is a text: bytes that are
    none are shown by signs, and each tokenizer has its own way of counting those."""
    chooser = random.Random(0)
    ids = [id for id, own in enumerate(found.whole) if own]
    drawn = [[chooser.choice(ids) for _ in range(RUN)] for _ in range(TRIALS if ids else 0)]
    for run in [*drawn, *_edges(found, ids)]:
        said = found.joined(run)
        if not _is_text(said):
            run = [id for id in run if _is_text(found.whole[id])]
            said = found.joined(run)
        text = tokenizer.decode(run, shown=shown)
        if text != said.decode():
            raise fail("tokenizer-not-bytewise", path=tokenizer.path, reason=f"the tokens {run} are {text!r}")


def _edges(found: TokenBytes, ids: list[int]) -> list[list[int]]:
    """A token that ends with each byte there is, and one that begins with it, last, first and amid others: some
    decoders strip or replace what stands there."""
    ends, begins = ({found.whole[id][at:][:1]: id for id in reversed(ids)} for at in (-1, 0))
    other = min(ids, key=lambda id: (not found.whole[id].isalpha(), id), default=0)
    each = (*ends.values(), *begins.values())
    return [run for id in each for run in ([other, id], [id, other], [other, id, other])]


def _is_text(said: bytes) -> bool:
    try:
        said.decode()
    except UnicodeDecodeError:
        return False
    return True
