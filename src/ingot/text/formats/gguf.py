"""The tokenizer inside a GGUF file (llama.cpp), rebuilt with the ids of the model it was converted from.

Four kinds: `gpt2` is byte-level BPE, whose pattern the file names (`tokenizer.ggml.pre`) and does not hold; `bert` is
WordPiece, words marked by U+2581 and continuations by nothing; `llama` and `t5` are sentencepiece's BPE and Unigram
with the same pieces and scores. Rows that only fill the embedding up ([PAD32022]) are no tokens and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

from ingot.core.errors import fail, nearest
from ingot.text.formats.gguf_meta import read_metadata
from ingot.text.formats.parts import Imported, Settings, wrong
from ingot.text.formats.sentencepiece import BPE, SPACE, UNIGRAM, Model, Piece, build
from ingot.text.formats.vocab_txt import word_piece
from ingot.text.split import PATTERNS
from ingot.text.stream import byte_alphabet, token_bytes

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
NEVER = {0xC0, 0xC1, *range(0xF5, 0x100)}
"""Bytes that UTF-8 never uses, which a vocabulary may lack."""
ROLES = {
    "bos": "bos",
    "eos": "eos",
    "unknown": "unk",
    "padding": "pad",
    "seperator": "sep",
    "cls": "cls",
    "mask": "mask",
}
"""As GGUF spells them in `tokenizer.ggml.NAME_token_id`, and as tokenizer_config.json does."""

GPT2, LLAMA3, QWEN2 = ((PATTERNS[name],) for name in ("gpt2", "llama3", "qwen2"))
DIGITS_ALONE = (r"\p{N}", *GPT2)
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
MARKS = "[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
LATIN_AND_KIN = (
    "["
    "\u0041-\u005a\u0061-\u007a\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"
    "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba"
    "\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d"
    "\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115"
    "\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183"
    "\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f"
    "\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943"
    "]+"
)
"""Cased letters as DeepSeek lists them; escaped, because some have twins that normalising would put in their place."""
PRE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo"), GPT2),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe"), LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2"), QWEN2),
    **dict.fromkeys(("starcoder", "refact", "command-r", "smollm", "codeshell"), DIGITS_ALONE),
    "gpt-4o": (PATTERNS["o200k"],),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"),
    "deepseek-llm": (r"[\r\n]", rf"\s?{LATIN_AND_KIN}", r"\s?" + MARKS, r"\s+$", CJK, r"\p{N}+"),
}
"""How text is cut before the bytes, one pattern after the other, by the name that GGUF files give it."""
WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3")
"""Where a word that is a token is taken whole, whatever its merges (`ignore_merges`)."""


def read_gguf(path: Path, settings: Settings) -> Imported:
    """The tokenizer of a GGUF file. Raises `bad-token-file` and `unsupported-token-file`."""
    meta = {name.removeprefix("tokenizer.ggml."): value for name, value in read_metadata(path).items()}
    kind = meta.get("model")
    if kind is None:
        raise wrong(path, "tokenizer.ggml.model", "it is missing; the file has no tokenizer")
    if kind not in READERS:
        raise fail("unsupported-token-file", path=path, what=f"a tokenizer of kind {kind!r}")
    if kind != "gpt2" and settings.pattern:
        raise fail("setting-not-used", name="pattern", path=path, format=f"gguf ({kind})")
    _check(path, meta)
    found = READERS[kind](path, meta, settings)
    template = meta.get("tokenizer.chat_template")
    roles = {role: token for role, token in _roles(path, meta).items() if token in found.vocabulary}
    config = {"add_bos_token": meta["add_bos_token"]} if isinstance(meta.get("add_bos_token"), bool) else {}
    return replace(
        found,
        roles={**found.roles, **roles},
        numbers={"kind": kind, **found.numbers},
        chat_template=template if isinstance(template, str) else None,
        config=config,
    )


def _check(path: Path, meta: dict[str, Any]) -> None:
    """The lists are there, of equal length and of the types they should have."""
    tokens = _list(path, meta, "tokens", str)
    meta.setdefault("token_type", [NORMAL] * len(tokens))
    wanted = {"token_type": int}
    if meta["model"] in ("llama", "t5"):
        wanted["scores"] = float  # type: ignore[assignment]
    for name, kind in wanted.items():
        if len(_list(path, meta, name, kind)) != len(tokens):
            raise wrong(
                path, f"tokenizer.ggml.{name}", f"it has {len(meta[name])} entries, there are {len(tokens)} tokens"
            )
    seen: dict[str, int] = {}
    for id, (token, kind) in enumerate(zip(tokens, meta["token_type"], strict=True)):
        if not NORMAL <= kind <= BYTE:
            raise wrong(path, f"tokenizer.ggml.token_type[{id}]", f"there is no type {kind}")
        if seen.setdefault(token, id) != id or not token:
            reason = f"{token!r} is token {seen[token]} already" if token else "it is empty"
            raise wrong(path, f"tokenizer.ggml.tokens[{id}]", reason)


def _list(path: Path, meta: dict[str, Any], name: str, kind: type) -> list[Any]:
    found = meta.get(name)
    if not isinstance(found, list) or not found or not all(isinstance(item, kind) for item in found):
        raise wrong(path, f"tokenizer.ggml.{name}", f"it is not a list of {kind.__name__}")
    return found


def _roles(path: Path, meta: dict[str, Any]) -> dict[str, str]:
    """The special tokens by their roles."""
    roles = {}
    for name, role in ROLES.items():
        id = meta.get(f"{name}_token_id")
        if id is None:
            continue
        if not isinstance(id, int) or not 0 <= id < len(meta["tokens"]):
            raise wrong(path, f"tokenizer.ggml.{name}_token_id", f"there is no token {id}")
        roles[f"{role}_token"] = meta["tokens"][id]
    return roles


def _real(meta: dict[str, Any]) -> dict[str, int]:
    """The tokens that are not there to fill the embedding up."""
    kinds = meta["token_type"]
    return {token: id for id, token in enumerate(meta["tokens"])
            if not (kinds[id] in (USER_DEFINED, UNUSED) and token == f"[PAD{id}]")}  # fmt: skip


def _byte_level(path: Path, meta: dict[str, Any], settings: Settings) -> Imported:
    vocabulary, kinds = _real(meta), meta["token_type"]
    patterns = _patterns(path, meta, settings)
    ordinary = {token for token, id in vocabulary.items() if kinds[id] == NORMAL}
    missing = [byte for character, byte in byte_alphabet().items() if character not in ordinary and byte not in NEVER]
    model = models.BPE(vocabulary, _merges(path, meta, vocabulary), ignore_merges=meta.get("pre") in WHOLE_WORDS)
    made = tokenizers.Tokenizer(model)
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
    made.decoder = decoders.ByteLevel()
    added = [(token, kinds[id]) for token, id in vocabulary.items() if kinds[id] in (CONTROL, USER_DEFINED, UNKNOWN)]
    made.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, kind in added if kind != USER_DEFINED]
    )
    made.add_tokens([AddedToken(t, normalized=False) for t, kind in added if kind == USER_DEFINED])
    spelled = all(token_bytes(token) == token.encode() for token, kind in added if kind == USER_DEFINED)
    numbers = {"merges": len(meta["merges"]), "pattern": meta.get("pre"), "bytes_without_token": len(missing)}
    return Imported(made, vocabulary, {}, spelled and not missing, numbers)


def _patterns(path: Path, meta: dict[str, Any], settings: Settings) -> tuple[str, ...]:
    """By the file's own name, or by --pattern where it has none."""
    if settings.pattern:
        if "pre" in meta:
            raise fail("setting-not-used", name="pattern", path=path, format=f"gguf ({meta['pre']})")
        if settings.pattern not in PATTERNS:
            raise fail("unknown-pattern", found=settings.pattern, nearest=nearest(settings.pattern, PATTERNS))
        return (PATTERNS[settings.pattern],)
    if "pre" not in meta:
        raise fail("pattern-needed", path=path, known=", ".join(PATTERNS))
    if meta["pre"] not in PRE:
        raise fail("unsupported-token-file", path=path, what=f"the pre-tokenizer {meta['pre']!r}")
    return PRE[meta["pre"]]


def _merges(path: Path, meta: dict[str, Any], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    merges = []
    for number, line in enumerate(_list(path, meta, "merges", str)):
        pair = line.split(" ")
        place = f"tokenizer.ggml.merges[{number}]"
        if len(pair) != 2:
            raise wrong(path, place, f"{line!r:.60} is not two tokens with a space between")
        unknown = [token for token in (*pair, "".join(pair)) if token not in vocabulary]
        if unknown:
            raise wrong(path, place, f"the vocabulary has no {unknown[0]!r}")
        merges.append((pair[0], pair[1]))
    return merges


def _word_piece(path: Path, meta: dict[str, Any], settings: Settings) -> Imported:
    """[UNK] stands as it is, a word without its mark, anything else continues one."""

    def written(token: str) -> str:
        if token.startswith("[") and token.endswith("]") and len(token) > 2:
            return token
        return token.removeprefix(SPACE) if token.startswith(SPACE) else f"##{token}"

    return word_piece(path, {written(token): id for token, id in _real(meta).items()}, settings)


def _sentencepiece(path: Path, meta: dict[str, Any], settings: Settings) -> Imported:
    kinds = meta["token_type"]
    charsmap = meta.get("precompiled_charsmap") or []
    names = {"unk": "unknown", "bos": "bos", "eos": "eos", "pad": "padding"}
    model = Model(
        pieces=[Piece(*piece) for piece in zip(meta["tokens"], meta["scores"], kinds, strict=True)],
        model_type=UNIGRAM if meta["model"] == "t5" else BPE,
        byte_fallback=BYTE in kinds,
        ids={short: meta.get(f"{name}_token_id", 0 if short == "unk" else -1) for short, name in names.items()},
        charsmap=bytes(byte & 0xFF for byte in charsmap),
        dummy_prefix=bool(meta.get("add_space_prefix", True)),
        remove_extra_spaces=bool(meta.get("remove_extra_whitespaces", meta["model"] == "t5")),
    )
    return build(path, model)


READERS: dict[str, Callable[[Path, dict[str, Any], Settings], Imported]] = {
    "gpt2": _byte_level,
    "bert": _word_piece,
    "llama": _sentencepiece,
    "t5": _sentencepiece,
}
