"""sentencepiece .model files: Unigram and BPE, with byte fallback, normalisation map and dummy prefix.

sentencepiece works on the whole text with spaces written as U+2581; so does the tokenizer made here: all its rules for
spaces stand in the normaliser, and there is no pre-tokenizer. Its schema: sentencepiece_model.proto.

Known differences, all rare: marks stacked on one letter (`tokenizers` applies the normalisation map by grapheme);
equally likely cuts of a long run of one character (sentencepiece sums in 32 bits, `tokenizers` in 64).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers

from ingot.core.errors import fail
from ingot.text.formats.parts import Imported, Settings, wrong
from ingot.text.formats.protobuf import as_float, as_int, as_text, fields

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
KINDS = {UNIGRAM: "unigram", BPE: "bpe", 3: "word", 4: "char"}
SPACE = "\u2581"


@dataclass(frozen=True)
class Piece:
    """A token, its score and kind."""

    text: str
    score: float
    kind: int = NORMAL


@dataclass
class Model:
    """What we read of a ModelProto, with the schema's defaults."""

    pieces: list[Piece] = field(default_factory=list)
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    space_behind: bool = False
    ids: dict[str, int] = field(default_factory=lambda: {"unk": 0, "bos": 1, "eos": 2, "pad": -1})
    charsmap: bytes = b""
    dummy_prefix: bool = True
    remove_extra_spaces: bool = True
    escape_spaces: bool = True


def read_sentencepiece(path: Path, settings: Settings) -> Imported:
    """A .model file. Raises `bad-token-file` (field and reason) and `unsupported-token-file`."""
    return build(path, read_model(path))


def build(path: Path, model: Model) -> Imported:
    """The tokenizer of a model, which was read from a file."""
    _check(path, model)
    vocabulary = {piece.text: id for id, piece in enumerate(model.pieces)}
    made = tokenizers.Tokenizer(_unigram(model) if model.model_type == UNIGRAM else _bpe(model, vocabulary))
    made.normalizer = normalizers.Sequence(_normalizer(model))
    made.decoder = decoders.Sequence(_decoder(model))
    made.add_special_tokens([
        AddedToken(piece.text, special=True, normalized=False)
        for piece in model.pieces if piece.kind in (CONTROL, UNKNOWN)
    ])  # fmt: skip
    roles = {f"{name}_token": model.pieces[id].text for name, id in model.ids.items() if 0 <= id < len(model.pieces)}
    return Imported(
        made,
        vocabulary,
        roles,
        lossless=False,
        numbers={"model_type": KINDS[model.model_type], "normalisation_map": bool(model.charsmap)},
    )


def read_model(path: Path) -> Model:
    """Parse the file."""
    model = Model()
    try:
        for number, value in fields(path.read_bytes()):
            if number == 1 and isinstance(value, bytes):
                model.pieces.append(_piece(value))
            elif number == 2 and isinstance(value, bytes):
                _trainer(model, value)
            elif number == 3 and isinstance(value, bytes):
                _normalizer_spec(model, value)
    except ValueError as error:
        raise wrong(path, f"piece {len(model.pieces)}", str(error)) from None
    return model


def _piece(message: bytes) -> Piece:
    found: dict[int, Any] = dict(fields(message))
    return Piece(as_text(found.get(1, b"")), as_float(found.get(2, b"\0" * 4)), as_int(found.get(3, NORMAL)))


def _trainer(model: Model, message: bytes) -> None:
    names = {40: "unk", 41: "bos", 42: "eos", 43: "pad"}
    for number, value in fields(message):
        if number == 3:
            model.model_type = as_int(value)
        elif number == 24:
            model.space_behind = bool(as_int(value))
        elif number == 35:
            model.byte_fallback = bool(as_int(value))
        elif number in names:
            signed = as_int(value)  # an int32, which some writers sign-extend to 32 bits only
            model.ids[names[number]] = signed - (1 << 32) if signed >= 1 << 31 else signed


def _normalizer_spec(model: Model, message: bytes) -> None:
    for number, value in fields(message):
        if number == 2 and isinstance(value, bytes):
            model.charsmap = value
        elif number == 3:
            model.dummy_prefix = bool(as_int(value))
        elif number == 4:
            model.remove_extra_spaces = bool(as_int(value))
        elif number == 5:
            model.escape_spaces = bool(as_int(value))


def _check(path: Path, model: Model) -> None:
    """Refuse what is broken, and what would give other ids than sentencepiece's."""
    if not model.pieces:
        raise wrong(path, "field 1", "it has no pieces; is it a sentencepiece model?")
    seen: dict[str, int] = {}
    for id, piece in enumerate(model.pieces):
        if piece.text in seen or not piece.text:
            reason = f"{piece.text!r} is piece {seen[piece.text]} already" if piece.text else "it is empty"
            raise wrong(path, f"piece {id}", reason)
        if not NORMAL <= piece.kind <= BYTE:
            raise wrong(path, f"piece {id}", f"it is of type {piece.kind}, which does not exist")
        seen[piece.text] = id
    unknown = [id for id, piece in enumerate(model.pieces) if piece.kind == UNKNOWN]
    if unknown != [model.ids["unk"]]:
        raise wrong(path, "unk_id", f"it is {model.ids['unk']}, but the unknown pieces are {unknown}")
    missing = [byte for byte in range(256) if f"<0x{byte:02X}>" not in seen]
    if model.byte_fallback and missing:
        raise wrong(path, "byte_fallback", f"there is no piece <0x{missing[0]:02X}>")
    kinds = {piece.kind for piece in model.pieces}
    for holds, what in (
        (model.model_type not in (UNIGRAM, BPE), f"model type {KINDS.get(model.model_type, model.model_type)}"),
        (model.space_behind, "treat_whitespace_as_suffix"),
        (not model.escape_spaces, "escape_whitespaces: false"),
        (UNUSED in kinds, "unused pieces"),
        (USER_DEFINED in kinds and (model.model_type == BPE or bool(model.charsmap)), "user-defined symbols"),
    ):
        if holds:
            raise fail("unsupported-token-file", path=path, what=what)


def _unigram(model: Model) -> models.Unigram:
    """Scores as sentencepiece uses them: a user-defined symbol is better than any cut of it; strings like <s> and
    <0x0A> in a text are text, so their own tokens are made worse than any cut into characters. (The score of unknown
    characters, which `tokenizers` derives from the worst score, then falls too. It makes no difference: a character of
    any piece is a piece itself, so an unknown one is part of none.) Where a model cannot spell such a
    string (T5's has no <), `Tokenizer` puts a break inside it."""
    normal = [piece for piece in model.pieces if piece.kind == NORMAL]
    best, worst = max((piece.score for piece in normal), default=0.0), min((p.score for p in normal), default=0.0)
    letters = {piece.text for piece in normal if len(piece.text) == 1}
    closed = all(letters.issuperset(piece.text) for piece in normal)
    scored = []
    for piece in model.pieces:
        score = piece.score
        if piece.kind == USER_DEFINED:
            score = len(piece.text) * best - 0.1
        elif piece.kind != NORMAL and closed and letters.issuperset(piece.text):
            score = len(piece.text) * worst - 1
        scored.append((piece.text, score))
    return models.Unigram(scored, unk_id=model.ids["unk"], byte_fallback=model.byte_fallback)


def _bpe(model: Model, vocabulary: dict[str, int]) -> models.BPE:
    """sentencepiece merges two neighbours whenever together they are a piece, the best score first."""
    usable = {piece.text: piece.score for piece in model.pieces if piece.kind == NORMAL}
    ways = [
        (-score, vocabulary[text], at, (text[:at], text[at:]))
        for text, score in usable.items()
        for at in range(1, len(text))
        if text[:at] in usable and text[at:] in usable
    ]
    unknown = model.pieces[model.ids["unk"]].text
    merges = [way[3] for way in sorted(ways)]
    return models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback)


def _normalizer(model: Model) -> list[Any]:
    """In sentencepiece's order: characters, spaces at the edges and in runs, U+2581 for spaces, the dummy prefix."""
    steps: list[Any] = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    if model.remove_extra_spaces:
        steps += [normalizers.Replace(Regex(r"\A +"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    steps.append(normalizers.Replace(" ", SPACE))
    if model.remove_extra_spaces:
        steps.append(normalizers.Replace(Regex(rf"{SPACE}+\z"), ""))
    return [*steps, normalizers.Prepend(SPACE)] if model.dummy_prefix else steps


def _decoder(model: Model) -> list[Any]:
    bytes_back = [decoders.ByteFallback()] if model.byte_fallback else []
    strip = [decoders.Strip(" ", 1, 0)] if model.dummy_prefix else []
    return [decoders.Replace(SPACE, " "), *bytes_back, decoders.Fuse(), *strip]
