"""Tokenizer: text to token ids and back, for any directory with a tokenizer.json.

What sets it apart from the `tokenizers` object it wraps: a special-token string inside a text stays text unless the
caller says otherwise; saved padding, truncation and dropout are switched off, so the same text always gives the same
ids, whole; and an opened Tokenizer is never changed afterwards, so threads share one.

Where specials are wanted among text that must not be parsed (a rendered chat), `encode_pieces` takes a list of strings
(text) and ids (specials). Each special is stood for by an alias, a string nobody can guess, so that the whole is one
pass of the real tokenizer and space-eating flags and "first word" rules act exactly as they do on the plain string.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers

from ingot.core.errors import fail
from ingot.core.files import file_digest
from ingot.core.model_dir import read_json
from ingot.text.check import read_checked
from ingot.text.fast import FastEncoder
from ingot.text.stream import ByteStream, StreamDecoder, WindowStream

if TYPE_CHECKING:
    from ingot.text.trie import TokenTrie

ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
"""Keys of tokenizer_config.json that name special tokens; chat templates see them under these names."""


LARGE = 100_000
"""Characters after which encoding goes the fast way, where there is one."""
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Encoded:
    """Ids, and for each the range of characters it came from: begins[i] <= position < ends[i] in the joined text."""

    ids: list[int]
    begins: list[int]
    ends: list[int]


class Tokenizer:
    """An opened tokenizer. Build it with `Tokenizer.open`; safe to share between threads."""

    def __init__(self, path: Path, backend: tokenizers.Tokenizer, config: dict[str, Any], templates: dict[str, str]):
        self.path = path
        self.special_tokens: dict[str, str] = {role: config[role] for role in ROLES if role in config}
        self.chat_templates = templates
        self.vocab_size: int = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.added_tokens: dict[int, tokenizers.AddedToken] = dict(backend.get_added_tokens_decoder())
        self.special_ids = frozenset(id for id, token in self.added_tokens.items() if token.special)
        self._add_bos: bool | None = config.get("add_bos_token")
        self._backend = backend
        self._seen = 0
        self.nonce = nonce = str(secrets.randbelow(9 * 10**23) + 10**23)
        """Digits nobody can guess, for standing in for special strings while text is worked on."""
        self._aliases = _add_aliases(backend, self.added_tokens, self.vocab_size, nonce)
        self._break = f"<{nonce}-break>"
        if backend.pre_tokenizer is None:  # sentencepiece: the text stays one, with one prefix, and is only cut later
            backend.pre_tokenizer = pre_tokenizers.Split(self._break, "removed")
        else:
            backend.add_tokens([tokenizers.AddedToken(self._break, normalized=False)])
        self._break_id = backend.token_to_id(self._break)
        self._real = {backend.token_to_id(alias): id for id, alias in self._aliases.items()}

    @classmethod
    def open(cls, directory: str | Path) -> Tokenizer:
        """Open tokenizer.json, and tokenizer_config.json and chat_template.jinja where they are.

        Raises `no-such-file`, `bad-tokenizer` (the place in tokenizer.json and what is wrong there) and
        `token-not-in-vocabulary` (the config names a token that tokenizer.json does not have).
        """
        path = Path(directory) / "tokenizer.json"
        backend = _read_backend(path)
        config, templates = _read_config(path.parent)
        for role, token in config.items():
            if role in ROLES and backend.token_to_id(token) is None:
                raise fail("token-not-in-vocabulary", path=path.parent, role=role, token=token)
        return cls(path.parent, backend, config, templates)

    # ---- ids from text

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of a text; no BOS is added. With special=True, special-token strings in it become those tokens."""
        pieces = self.split_specials(text) if special else [text]
        if self._leaks or pieces not in ([text], []):
            return self.encode_pieces(pieces).ids
        try:
            return self._encode_plain(text)
        except (UnicodeEncodeError, TypeError):
            check_characters(text)
            raise

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, on all cores."""
        texts = list(texts)
        if self._leaks or sum(map(len, texts)) < LARGE:
            return [self.encode(text) for text in texts]
        for text in texts:
            check_characters(text)
        if self._fast is None:
            return [found.ids for found in self._backend.encode_batch_fast(texts, add_special_tokens=False)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # tiktoken lets other threads run while it works
            return list(pool.map(self.encode, texts))

    def _encode_plain(self, text: str) -> list[int]:
        """Through tiktoken's core where it gives the same ids, else through `tokenizers`. A little text is not worth
        the proof that it does."""
        self._seen += len(text)
        found = self._fast.encode(text) if self._seen > LARGE and self._fast else None
        if found is not None:
            return found
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    @cached_property
    def _fast(self) -> FastEncoder | None:
        ordinary = [token.content for token in self.added_tokens.values() if not token.special]
        return FastEncoder.of(json.loads(self._backend.to_str()), ordinary)

    def encode_document(self, text: str) -> list[int]:
        """The ids of a whole document: those of the text behind the BOS the tokenizer itself would put, if any."""
        return [*self.document_prefix, *self.encode(text)]

    @cached_property
    def document_prefix(self) -> tuple[int, ...]:
        """What stands before a document: the config's `add_bos_token` decides, or else tokenizer.json."""
        if self._add_bos is not None:
            return (self.bos_id,) if self._add_bos and self.bos_id is not None else ()
        plain, full = (self._backend.encode("a", add_special_tokens=added).ids for added in (False, True))
        where = next((at for at in range(len(full)) if full[at : at + len(plain)] == plain), 0)
        return tuple(full[:where])

    @cached_property
    def start_ids(self) -> tuple[int, ...]:
        """What a document's first token is predicted from, in training and in measuring alike: the tokenizer's own
        prefix, else BOS, else EOS (which ended the document before); empty when there is none of them."""
        start = self.bos_id if self.bos_id is not None else self.eos_id
        return self.document_prefix or (() if start is None else (start,))

    def encode_pieces(self, pieces: Sequence[str | int]) -> Encoded:
        """Encode strings (as text, never parsed) and special ids in one pass.

        Ranges count characters of the text joined from the strings and the specials' own strings.
        """
        pairs = [pair for piece in pieces for pair in self._written(piece)]
        written, plain = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        found = self._backend.encode("".join(written), add_special_tokens=False)
        here, there = (list(accumulate(map(len, texts), initial=0)) for texts in (written, plain))
        ids = found.ids  # a copy, made at every look
        kept = [number for number, id in enumerate(ids) if id != self._break_id]
        spans = np.asarray(found.offsets, dtype=np.int64).reshape(-1, 2)[kept]
        begins, ends = (_move(column, here, there) for column in spans.T)
        return Encoded([self._real.get(ids[number], ids[number]) for number in kept], begins, ends)

    def _written(self, piece: str | int) -> list[tuple[str, str]]:
        """A piece as parts: what the backend is given for it, and what it stands for."""
        if isinstance(piece, int):
            return [(self._aliases[piece], self.added_tokens[piece].content)]
        if not self._leaks:
            return [(piece, piece)]
        parts = self._leaks.sub(self._broken, piece).split(self._break)
        return [pair for part in parts for pair in ((part, part), (self._break, ""))][:-1]

    def _broken(self, match: re.Match[str]) -> str:
        """A special string with a break inside: where a character that is no token meets one that is, if anywhere. No
        piece runs over that border, and unknown characters side by side stay side by side."""
        special = match[0]
        known = [self._backend.token_to_id(character) is not None for character in special]
        at = next((at for at in range(1, len(special)) if known[at] != known[at - 1]), 1)
        return f"{special[:at]}{self._break}{special[at:]}"

    @cached_property
    def _leaks(self) -> re.Pattern[str] | None:
        """Names of special tokens and of bytes that the model itself knows as a word (Unigram does): a break inside
        keeps them text."""
        specials = [self.added_tokens[id].content for id in self.special_ids]
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if self.has_byte_tokens else []
        whole = [word for word in (*specials, *bytes_) if len(word) > 1 and self._is_word(word)]
        return re.compile(_any_of(whole)) if whole else None

    def _is_word(self, name: str) -> bool:
        """Does a text that is the name of a token become that token?"""
        found = self._backend.encode(name, add_special_tokens=False)
        return any(end - begin == len(name) for id, (begin, end) in zip(found.ids, found.offsets, strict=True)
                   if self.token(id) == name)  # fmt: skip

    def split_specials(self, text: str) -> list[str | int]:
        """Cut a text into strings and the ids of the special tokens written in it, leftmost and longest first."""
        pieces: list[str | int] = []
        end = 0
        for match in self.added_pattern.finditer(text):
            id = self._backend.token_to_id(match[0])
            if id in self.special_ids:
                pieces += [text[end : match.start()], id]
                end = match.end()
        return [piece for piece in [*pieces, text[end:]] if piece != ""]

    @cached_property
    def added_pattern(self) -> re.Pattern[str]:
        """Finds every added token in a text, special or not, the way the tokenizer itself does."""
        tokens = sorted(self.added_tokens.values(), key=lambda token: -len(token.content))
        edges = {True: (r"(?<!\w)", r"(?!\w)"), False: ("", "")}
        words = (re.escape(token.content).join(edges[token.single_word]) for token in tokens)
        return re.compile("|".join(words) or r"(?!)")

    @cached_property
    def fragment_pattern(self) -> re.Pattern[str]:
        """Finds special strings in a text: whole, begun at its end, or ended at its beginning."""
        specials = {self.added_tokens[id].content for id in self.special_ids}
        cuts = [(special[:n], special[n:]) for special in specials for n in range(1, len(special))]
        whole, heads, tails = (_any_of(strings) for strings in (specials, {c[0] for c in cuts}, {c[1] for c in cuts}))
        return re.compile(rf"{whole}|{heads}\Z|\A{tails}")

    # ---- text from ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True, shown: frozenset[int] = frozenset()) -> str:
        """The text of some ids; special tokens are left out, but for those that are `shown`. Ids beyond the vocabulary
        (rows an embedding was padded with) are no text."""
        skipped = self.special_ids - shown if skip_special else frozenset()
        known = [id for id in map(int, ids) if id < self.vocab_size and id not in skipped]
        text: str = self._backend.decode(known, skip_special_tokens=False)
        return text

    def stream(self, *, skip_special: bool = True, shown: frozenset[int] = frozenset()) -> StreamDecoder:
        """`decode` one id at a time, giving out text as soon as it can no longer change."""
        kind = ByteStream if self.is_byte_level else WindowStream
        return kind(self, self.special_ids - shown if skip_special else frozenset())

    @cached_property
    def decoder(self) -> dict[str, Any]:
        """The decoder's own description in tokenizer.json."""
        decoder = self._backend.decoder
        described: dict[str, Any] = json.loads(decoder.__getstate__()) if decoder is not None else {}
        return described

    @property
    def is_byte_level(self) -> bool:
        """Are tokens written in GPT-2's stand-ins for bytes?"""
        return self.decoder.get("type") == "ByteLevel"

    @cached_property
    def has_byte_tokens(self) -> bool:
        """Are there tokens such as <0xE4> that stand for single bytes?"""
        return "ByteFallback" in json.dumps(self.decoder)

    @cached_property
    def trie(self) -> TokenTrie:
        """The vocabulary for grammars, made at the first look. Raises `tokenizer-not-bytewise`."""
        from ingot.text.trie import TokenTrie

        return TokenTrie.of(self)

    # ---- the vocabulary

    def token(self, id: int) -> str | None:
        """The token as it stands in the vocabulary (byte-level tokens in their alphabet); None when there is none."""
        found: str | None = self._backend.id_to_token(id) if 0 <= id < self.vocab_size else None
        return found

    def id(self, token: str) -> int | None:
        """The id of a token of the vocabulary, special or not."""
        found: int | None = self._backend.token_to_id(token)
        return found if found is not None and found < self.vocab_size else None

    @property
    def bos_id(self) -> int | None:
        return self._role_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        return self._role_id("eos_token")

    @property
    def pad_id(self) -> int | None:
        return self._role_id("pad_token")

    @property
    def unk_id(self) -> int | None:
        return self._role_id("unk_token")

    def _role_id(self, role: str) -> int | None:
        return self.id(self.special_tokens[role]) if role in self.special_tokens else None

    @property
    def chat_template(self) -> str | None:
        """The template of conversations, None for a tokenizer without one."""
        return self.chat_templates.get("default")

    @cached_property
    def digest(self) -> str:
        """sha256 of tokenizer.json, which alone decides the ids: equal digests mean equal ids."""
        return file_digest(self.path / "tokenizer.json")


def check_characters(text: str) -> None:
    """Raises `lone-surrogate` (position from 1) where a text holds half a character."""
    found = SURROGATE.search(text)
    if found:
        raise fail("lone-surrogate", position=found.start() + 1, found=f"U+{ord(found[0]):04X}")


def _any_of(strings: Collection[str]) -> str:
    """A pattern for the longest of some strings."""
    ordered = sorted(strings, key=lambda string: (-len(string), string))
    return f"(?:{'|'.join(map(re.escape, ordered))})" if ordered else "(?!)"


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a file, with everything off that would cut, pad or vary its output."""
    if not path.exists():
        raise fail("no-such-file", path=path)
    backend = read_checked(path)
    backend.no_truncation()
    backend.no_padding()
    if getattr(backend.model, "dropout", None) is not None:
        backend.model.dropout = None
    backend.encode_special_tokens = True
    return backend


def _read_config(directory: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The named special tokens as plain strings with `add_bos_token`, and the chat templates by name."""
    maps, main = directory / "special_tokens_map.json", directory / "tokenizer_config.json"
    both = {**(read_json(maps) if maps.exists() else {}), **(read_json(main) if main.exists() else {})}
    config: dict[str, Any] = {}
    for role in ROLES:
        token = both.get(role)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            config[role] = token
    if isinstance(both.get("add_bos_token"), bool):
        config["add_bos_token"] = both["add_bos_token"]
    return config, _templates(directory, both.get("chat_template"))


def _templates(directory: Path, inline: object) -> dict[str, str]:
    """chat_template.jinja wins over the config's `chat_template`, a string or a list of {name, template}."""
    found: dict[str, str] = {}
    if isinstance(inline, str):
        found["default"] = inline
    elif isinstance(inline, list):
        found = {str(entry["name"]): str(entry["template"]) for entry in inline if isinstance(entry, dict)}
    for file in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        found[file.stem] = file.read_text(encoding="utf-8")
    if (directory / "chat_template.jinja").exists():
        found["default"] = (directory / "chat_template.jinja").read_text(encoding="utf-8")
    return found


def _add_aliases(backend: tokenizers.Tokenizer, added: dict[int, Any], vocab_size: int, nonce: str) -> dict[int, str]:
    """Give every special token a second, unguessable string, with an id beyond the vocabulary; returns {id: alias}."""
    holes = vocab_size - backend.get_vocab_size(with_added_tokens=True)
    backend.add_tokens([tokenizers.AddedToken(f"<{nonce}-hole-{n}>", normalized=False) for n in range(holes)])
    aliases = {id: f"<{nonce}-{id}>" for id, token in added.items() if token.special}
    backend.add_tokens([
        tokenizers.AddedToken(aliases[id], lstrip=added[id].lstrip, rstrip=added[id].rstrip, normalized=False)
        for id in aliases
    ])  # fmt: skip
    assert all((backend.token_to_id(alias) or 0) >= vocab_size for alias in aliases.values())
    return aliases


def _move(positions: np.ndarray[Any, Any], here: list[int], there: list[int]) -> list[int]:
    """Positions in one joined text to positions in another with the same pieces, given both texts' piece borders."""
    piece = np.searchsorted(here, positions, side="right") - 1
    room = np.diff([*there, there[-1]])[piece]
    moved: list[int] = (np.asarray(there)[piece] + np.minimum(positions - np.asarray(here)[piece], room)).tolist()
    return moved
