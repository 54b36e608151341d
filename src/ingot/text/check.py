"""Checking a tokenizer.json before it is used: what is wrong is named by its place in the file ($.model.merges[17]).

`tokenizers` itself names no place, and reads some broken files without a word: of two tokens with one id the last is
kept, an added token whose id is taken gets another. Its own reading comes last, for the parts that only it knows
(normaliser, pre-tokeniser, post-processor, decoder); the one that it refuses is found by giving it each part alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import tokenizers

from ingot.core.errors import fail, nearest
from ingot.core.language import text

LARGEST_ID = (1 << 22) - 1
"""No vocabulary has so many tokens, and memory for the gaps between ids must be bounded."""
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
PARTS = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
    "decoder": "decoders",
}
"""What else the file holds, and the name under which a sequence of each keeps its steps."""
Vocabulary = Mapping[str, int]


class FaultError(Exception):
    """Something wrong at a place of the file."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place, self.reason = place, reason


def read_checked(path: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a tokenizer.json. Raises `bad-tokenizer` naming the place of the first fault."""
    try:
        content = _parsed(path)
        vocabulary = _check_model(_part(content, "$", "model", dict))
        _check_added(content, vocabulary)
        return _loaded(path, content)
    except FaultError as fault:
        raise fail("bad-tokenizer", path=path, place=fault.place, reason=fault.reason) from None


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes().decode(), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise FaultError(text("tokenizer-json-byte", byte=error.start + 1), text("tokenizer-json-not-utf8")) from None
    except json.JSONDecodeError as error:
        place = text("tokenizer-json-line", line=error.lineno, column=error.colno)
        raise FaultError(place, text("tokenizer-json-syntax", reason=error.msg)) from None
    except RecursionError:
        raise FaultError("$", text("tokenizer-json-deep")) from None
    if not isinstance(content, dict):
        raise FaultError("$", _not(content, dict))
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise FaultError("$", text("tokenizer-json-key-twice", key=next(key for key in keys if keys.count(key) > 1)))
    return found


def _part(holder: Mapping[str, Any], place: str, name: str, kind: type) -> Any:
    """A part that must be there, of a type."""
    if name not in holder:
        raise FaultError(f"{place}.{name}", text("tokenizer-json-missing", expected=_type(kind)))
    if not isinstance(holder[name], kind):
        raise FaultError(f"{place}.{name}", _not(holder[name], kind))
    return holder[name]


def _not(found: object, kind: type) -> str:
    return text("tokenizer-json-type", found=json.dumps(found, ensure_ascii=False)[:60], expected=_type(kind))


def _type(kind: type) -> str:
    return text(f"tokenizer-json-a-{kind.__name__}")


# ---- the model


def _check_model(model: dict[str, Any]) -> Vocabulary:
    """The vocabulary of a model without faults."""
    kind = model.get("type", _untyped(model))
    if not isinstance(kind, str) or kind not in MODELS:
        hint = nearest(str(kind), MODELS)
        raise FaultError("$.model.type", text("tokenizer-json-model", found=str(kind), nearest=hint))
    return MODELS[kind](model)


def _untyped(model: Mapping[str, Any]) -> str:
    """Old files do not name the type."""
    if "merges" in model:
        return "BPE"
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "WordPiece" if "continuing_subword_prefix" in model else "WordLevel"


def _bpe(model: dict[str, Any]) -> Vocabulary:
    vocabulary = _ids(model)
    prefix = len(str(model.get("continuing_subword_prefix") or ""))
    for number, merge in enumerate(_part(model, "$.model", "merges", list)):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            shown = json.dumps(merge, ensure_ascii=False)[:60]
            raise FaultError(f"$.model.merges[{number}]", text("tokenizer-json-merge", found=shown))
        for token in (*pair, pair[0] + pair[1][prefix:]):
            if token not in vocabulary:
                raise FaultError(f"$.model.merges[{number}]", text("tokenizer-json-unknown", token=token))
    return vocabulary


def _words(model: dict[str, Any]) -> Vocabulary:
    """WordPiece and WordLevel: a word that is not known must have a token to become."""
    vocabulary = _ids(model)
    unknown = _part(model, "$.model", "unk_token", str)
    if unknown not in vocabulary:
        raise FaultError("$.model.unk_token", text("tokenizer-json-unknown", token=unknown))
    return vocabulary


def _unigram(model: dict[str, Any]) -> Vocabulary:
    vocabulary: dict[str, int] = {}
    for number, entry in enumerate(_part(model, "$.model", "vocab", list)):
        place = f"$.model.vocab[{number}]"
        if not isinstance(entry, list) or len(entry) != 2 or not (isinstance(entry[0], str) and _is_number(entry[1])):
            raise FaultError(place, text("tokenizer-json-piece", found=json.dumps(entry, ensure_ascii=False)[:60]))
        if entry[0] in vocabulary:
            raise FaultError(place, text("tokenizer-json-token-twice", token=entry[0], id=vocabulary[entry[0]]))
        vocabulary[entry[0]] = number
    unknown = model.get("unk_id")
    if unknown is not None and not (_is_id(unknown) and unknown < len(vocabulary)):
        raise FaultError(
            "$.model.unk_id", text("tokenizer-json-id", found=str(unknown)[:40], largest=len(vocabulary) - 1)
        )
    return vocabulary


MODELS: dict[str, Callable[[dict[str, Any]], Vocabulary]] = {
    "BPE": _bpe,
    "Unigram": _unigram,
    "WordPiece": _words,
    "WordLevel": _words,
}


def _ids(model: dict[str, Any]) -> Vocabulary:
    """The vocabulary as token -> id: whole numbers in range, each once."""
    vocabulary: dict[str, int] = _part(model, "$.model", "vocab", dict)
    owner: dict[int, str] = {}
    for token, id in vocabulary.items():
        if not _is_id(id) or owner.setdefault(id, token) != token:
            place = f"$.model.vocab[{json.dumps(token, ensure_ascii=False)}]"
            if _is_id(id):
                raise FaultError(place, text("tokenizer-json-id-taken", token=token, id=id, other=owner[id]))
            raise FaultError(place, text("tokenizer-json-id", found=json.dumps(id)[:40], largest=LARGEST_ID))
    return vocabulary


def _is_id(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= LARGEST_ID


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ---- added tokens and the rest


def _check_added(content: dict[str, Any], vocabulary: Vocabulary) -> None:
    """Each added token has all its parts, and the id that the file gives it to no other."""
    if "added_tokens" not in content:
        return
    owner = {id: token for token, id in vocabulary.items()}
    ids = dict(vocabulary)
    for number, entry in enumerate(_part(content, "$", "added_tokens", list)):
        place = f"$.added_tokens[{number}]"
        if not isinstance(entry, dict):
            raise FaultError(place, _not(entry, dict))
        token = _part(entry, place, "content", str)
        for flag in FLAGS:
            _part(entry, place, flag, bool)
        id = entry.get("id")
        if not _is_id(id):
            raise FaultError(f"{place}.id", text("tokenizer-json-id", found=json.dumps(id)[:40], largest=LARGEST_ID))
        if owner.setdefault(id, token) != token:
            raise FaultError(f"{place}.id", text("tokenizer-json-id-taken", token=token, id=id, other=owner[id]))
        if ids.setdefault(token, id) != id:
            raise FaultError(f"{place}.id", text("tokenizer-json-token-twice", token=token, id=ids[token]))


def _loaded(path: Path, content: dict[str, Any]) -> tokenizers.Tokenizer:
    """As the library reads it, which must give the added tokens their ids."""
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        place, reason = _refused(content)
        raise FaultError(place, text("tokenizer-json-library", reason=reason or str(error))) from None
    for name in PARTS:
        read = getattr(backend, name)
        _check_types(f"$.{name}", content.get(name), json.loads(read.__getstate__()) if read is not None else {})
    for number, entry in enumerate(content.get("added_tokens", [])):
        found = backend.token_to_id(entry["content"])
        if found != entry["id"]:
            place = f"$.added_tokens[{number}].id"
            raise FaultError(place, text("tokenizer-json-gap", token=entry["content"], id=entry["id"], found=found))
    return backend


def _check_types(place: str, given: object, read: dict[str, Any]) -> None:
    """A type that the library does not know, it may take for another that has the same settings."""
    if not isinstance(given, dict):
        return
    if given.get("type", read.get("type")) != read.get("type"):
        found = json.dumps(given["type"], ensure_ascii=False)[:60]
        raise FaultError(f"{place}.type", text("tokenizer-json-read-as", found=found, read=read.get("type")))
    for name in PARTS.values():
        for number, (step, own) in enumerate(zip(given.get(name) or [], read.get(name) or [], strict=False)):
            _check_types(f"{place}.{name}[{number}]", step, own)


def _refused(content: dict[str, Any]) -> tuple[str, str]:
    """Place and reason of the part that the library refuses when given it alone, or of the setting of the model without
    which it does not refuse."""
    for name, part in content.items():
        reason = "" if name in ("model", "added_tokens") else _reason({name: part})
        if not reason:
            continue
        steps = PARTS.get(name, "")
        inner = part.get(steps) if isinstance(part, dict) else None
        for number, step in enumerate(inner if isinstance(inner, list) else []):
            if own := _reason({name: step}):
                return f"$.{name}.{steps}[{number}]", own
        return f"$.{name}", reason
    model = content["model"]
    reason = _reason({"model": model})
    for name in model.keys() - {"type", "vocab", "merges"}:
        if reason and not _reason({"model": {key: value for key, value in model.items() if key != name}}):
            return f"$.model.{name}", reason
    return "$.model" if reason else "$", reason


def _reason(parts: Mapping[str, Any]) -> str:
    """Why the library refuses some parts of an otherwise empty tokenizer, "" where it does not."""
    empty = {"model": {"type": "BPE", "vocab": {}, "merges": []}}
    try:
        tokenizers.Tokenizer.from_str(json.dumps({**empty, **parts}))
    except Exception as error:  # the library raises bare Exception
        return str(error).rpartition(" at line ")[0] or str(error)
    return ""
