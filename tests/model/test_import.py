"""llama2.c checkpoints: both versions give one model, which says what llama2.c said; its tokenizer; damaged files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.adapt.load import LanguageModel, load
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.model.import_verb import import_model
from ingot.model.llama2c import MAGIC, ORDER, Header, read_header, read_tensors
from ingot.model.llama2c_tokenizer import Pieces, read_pieces
from ingot.model.weights import read_tensors as read_directory
from ingot.text.tokenizer import Tokenizer

SMALL = Header(1, 16, 24, 2, 4, 2, 262, 32, True, 256)


@pytest.fixture(scope="session")
def stories(real_data: Path) -> Path:
    return real_data / "01_models" / "stories260K"


@pytest.fixture(scope="session")
def imported(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "stories"
    import_model(stories / "stories260K.bin", tokenizer=stories / "tok512.bin", out=out)
    return out


def greedy(model: LanguageModel, steps: int) -> list[int]:
    """The naive loop: every step reads everything again."""
    ids = [1]
    for _ in range(steps):
        ids.append(int(model.logits([ids])[0, -1].argmax()))
    return ids


# ---- the real model


def test_both_versions_are_one_model(stories: Path, imported: Path, tmp_path: Path) -> None:
    other = import_model(stories / "stories260K_v1.bin", tokenizer=stories / "tok512.bin", out=tmp_path / "v1")
    one, two = dict(read_directory(ModelDir.open(imported))), dict(read_directory(other))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert sum(tensor.numel() for tensor in one.values()) == 260_032 == other.summary()["parameters"]


@pytest.mark.slow
def test_it_tells_the_story_that_llama2c_tells(stories: Path, imported: Path) -> None:
    expected = json.loads((stories / "expected_greedy.json").read_text())
    model = load(imported)
    ids = greedy(model, 200)
    assert ids == expected["greedy_token_ids"]
    assert model.tokenizer.decode(ids) == expected["expected_text"]
    assert model.tokenizer.encode_document(expected["expected_text"]) == ids
    top = model.logits([[1]])[0, 0].topk(5)
    for (token, logit), index, value in zip(expected["first_step_logits_top5"], top.indices, top.values, strict=True):
        assert int(index) == token
        assert float(value) == pytest.approx(logit, abs=1e-4)


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_transformers_tells_it_too(stories: Path, imported: Path) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    expected = json.loads((stories / "expected_greedy.json").read_text())
    theirs, tokenizer = LlamaForCausalLM.from_pretrained(imported).eval(), AutoTokenizer.from_pretrained(imported)
    with torch.inference_mode():
        ids = theirs.generate(torch.tensor([[1]]), do_sample=False, max_new_tokens=200)[0].tolist()
        logits = theirs(torch.tensor([ids])).logits
    assert ids == expected["greedy_token_ids"]
    assert torch.allclose(logits, load(imported).logits([ids]), atol=1e-4)
    assert tokenizer(expected["expected_text"])["input_ids"] == ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == expected["expected_text"]


# ---- the tokenizer, against llama2.c's own algorithm


def llama2c_encode(text: str, pieces: Pieces) -> list[int]:
    """`encode` of run.c, line by line: a space in front, characters or bytes, then the best pair again and again."""
    ids = {piece: token for token, piece in reversed(list(enumerate(pieces.texts)))}
    tokens: list[int] = []
    for character in (" " + text) if text else "":
        known = ids.get(character)
        tokens += [known] if known is not None else [byte + 3 for byte in character.encode()]
    while True:
        best, where, joined = -1e10, None, -1
        for at in range(len(tokens) - 1):
            token = ids.get(pieces.texts[tokens[at]] + pieces.texts[tokens[at + 1]])
            if token is not None and pieces.scores[token] > best:
                best, where, joined = pieces.scores[token], at, token
        if where is None:
            return tokens
        tokens[where : where + 2] = [joined]


@pytest.fixture(scope="session")
def both(stories: Path, imported: Path) -> tuple[Pieces, Tokenizer]:
    return read_pieces(stories / "tok512.bin", 512), Tokenizer.open(imported)


STORY = st.text(st.sampled_from(" \n.,'\"TtHhEeAaNnDdSsOoLlIiRrWwYyGgMm!?-"), max_size=60)
WORDS = st.lists(
    st.sampled_from(["the ", "a", " aa", "aaa", " she", "said", " ", "  ", "ing", "Lily", "\n", "<0x0A>", "<s>"])
)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.mark.slow
@given(text=STORY | WORDS.map("".join) | ANY)
@settings(max_examples=400, deadline=None)
def test_ids_are_those_of_llama2c(both: tuple[Pieces, Tokenizer], text: str) -> None:
    pieces, tokenizer = both
    ids = tokenizer.encode(text)
    assert ids == llama2c_encode(text, pieces)
    assert tokenizer.decode(ids) == text


@pytest.mark.slow
def test_real_stories_have_the_ids_of_llama2c(real_data: Path, both: tuple[Pieces, Tokenizer]) -> None:
    pieces, tokenizer = both
    for name in ("tinystories_sample.txt", "zh_hant/ud_zh_hant_sentences.txt", "botchan_en.txt"):
        text = (real_data / "02_text" / name).read_text(encoding="utf-8")[:3000]
        assert tokenizer.encode(text) == llama2c_encode(text, pieces)


# ---- a model made here: untied head, damage


def write_checkpoint(path: Path, header: Header, damage: bytes = b"") -> Path:
    """A checkpoint with random weights, written array by array as export.py does."""
    numbers = [header.dim, header.hidden_dim, header.n_layers, header.n_heads, header.n_kv_heads]
    signed = header.vocab_size if header.shared or header.version else -header.vocab_size
    numbers += [signed, header.seq_len]
    if header.version:
        start = struct.pack("<Ii7i?", MAGIC, header.version, *numbers, header.shared).ljust(256, b"\0")
    else:
        start = struct.pack("<7i", *numbers)
    generator = torch.Generator().manual_seed(0)
    arrays = [torch.randn(header.shape(array), generator=generator) for _, array, _ in header.places()]
    path.write_bytes(start + b"".join(array.numpy().tobytes() for array in arrays) + damage)
    return path


def write_tokenizer_bin(path: Path, texts: list[str]) -> Path:
    entries = [(0.0, b"<unk>"), (0.0, b"\n<s>\n"), (0.0, b"\n</s>\n")]
    entries += [(0.0, b"<0x%02X>" % byte) for byte in range(256)]
    entries += [(-float(rank), text.encode()) for rank, text in enumerate(texts)]
    packed = b"".join(struct.pack("<fi", score, len(raw)) + raw for score, raw in entries)
    path.write_bytes(struct.pack("<i", 16) + packed)
    return path


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("shared", [True, False])
def test_every_header_field_has_its_place(tmp_path: Path, version: int, shared: bool) -> None:
    header = Header(version, 16, 24, 2, 4, 2, 262, 32, shared, 256 if version else 28)
    file = write_checkpoint(tmp_path / "model.bin", header)
    assert read_header(file) == header
    tokenizer = write_tokenizer_bin(tmp_path / "tok.bin", ["a", " ", " a"])
    model = load(import_model(file, tokenizer=tokenizer, out=tmp_path / "out").path)
    assert model.config.tie_embeddings == shared
    assert model.logits([[1, 2, 3]]).isfinite().all()
    assert model.eos_ids == {1, 2}


def test_adjacent_rotary_pairs_become_halves(tmp_path: Path) -> None:
    """Scores of llama2.c's rotation on its own weights equal ours on the re-ordered ones."""
    header = read_header(write_checkpoint(tmp_path / "model.bin", SMALL))
    tensors = dict(read_tensors(tmp_path / "model.bin", header))
    raw = (tmp_path / "model.bin").read_bytes()
    for array, count in (("wq", 4), ("wk", 2)):
        begin = next(position for _, name, position in header.places() if name == array)
        rows, columns = header.shape(array)
        theirs = torch.frombuffer(bytearray(raw[begin : begin + 4 * rows * columns]), dtype=torch.float32)
        kind = {"wq": "q_proj", "wk": "k_proj"}[array]
        ours = tensors[f"model.layers.0.self_attn.{kind}.weight"]
        x = torch.randn(16, generator=torch.Generator().manual_seed(1))
        a, b = theirs.view(rows, columns) @ x, ours @ x
        angle = 7 * torch.tensor([1.0, 10000 ** (-2 / header.head_dim)])
        even, odd = a.view(count, -1, 2).unbind(-1)
        turned = torch.stack([even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()], -1)
        first, second = b.view(count, 2, -1).unbind(1)
        halves = torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)
        assert torch.allclose(turned.transpose(1, 2).reshape(count, -1), halves, atol=1e-5)


def refused(code: str, words: str, file: Path, tokenizer: Path) -> None:
    out = file.parent / "out"
    with pytest.raises(IngotError, match=words) as error:
        import_model(file, tokenizer=tokenizer, out=out)
    assert error.value.code == code
    assert not out.exists()


def test_damaged_checkpoints_are_refused_by_name(tmp_path: Path) -> None:
    tokenizer = write_tokenizer_bin(tmp_path / "tok.bin", ["a", " ", " a"])
    good = write_checkpoint(tmp_path / "good.bin", SMALL)
    content = good.read_bytes()
    bad = tmp_path / "bad.bin"
    cases = {
        "cut short": (content[:-4], "llama2c-size", f"{len(content) - 4} bytes.*asks for {len(content)}"),
        "too long": (content + b"\0\0\0\0", "llama2c-size", "damaged"),
        "empty": (b"", "llama2c-not-one", "0 bytes"),
        "text": (b"Once upon a time there was a file that is no model.", "llama2c-not-one", "dim 1701015119"),
        "quantised": (content[:4] + struct.pack("<i", 2) + content[8:], "llama2c-version", "version 2"),
        "header cut": (content[:100], "llama2c-not-one", "100 bytes"),
        "heads": (content[:20] + struct.pack("<i", 3) + content[24:], "llama2c-not-one", "n_heads 3"),
        "nan": (content[:300] + struct.pack("<f", float("nan")) + content[304:], "not-finite", "input_layernorm"),
    }
    for data, code, words in cases.values():
        bad.write_bytes(data)
        refused(code, words, bad, tokenizer)
    refused("no-such-file", "missing.bin", tmp_path / "missing.bin", tokenizer)


def test_damaged_tokenizers_are_refused_by_name(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "good.bin", SMALL)
    good = write_tokenizer_bin(tmp_path / "tok.bin", ["a", " ", " a"])
    content = good.read_bytes()
    bad = tmp_path / "bad.tok"
    cases = {
        "cut short": (content[:-1], "llama2c-tokenizer-truncated", "token 261"),
        "cut in a header": (content[:-9], "llama2c-tokenizer-truncated", "token 261"),
        "no byte tokens": (content.replace(b"<0x0A>", b"<0x0B>"), "llama2c-tokenizer-piece", "token 13.*<0x0A>"),
        "not UTF-8": (content.replace(b" a", b"\xffa"), "llama2c-tokenizer-piece", "token 261.*UTF-8"),
    }
    for data, code, words in cases.values():
        bad.write_bytes(data)
        refused(code, words, file, bad)
    refused(
        "llama2c-tokenizer-size", "has 261 tokens, the checkpoint has 262", file, write_tokenizer_bin(bad, ["a", " "])
    )
    refused("llama2c-tokenizer-piece", "token 261", file, write_tokenizer_bin(bad, ["a", " ", "a"]))
    refused("no-such-file", "missing", file, tmp_path / "missing")


def test_a_tokenizer_that_loses_text_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ingot.model.import_verb as module

    honest = module.tokenizer_json
    monkeypatch.setattr(module, "tokenizer_json", lambda pieces: honest(pieces) | {"decoder": None})
    file = write_checkpoint(tmp_path / "good.bin", SMALL)
    refused("not-proven", "texts changed", file, write_tokenizer_bin(tmp_path / "tok.bin", ["a", " ", " a"]))


def test_every_array_has_a_place_in_both_versions() -> None:
    assert set(ORDER[1]) == set(ORDER[0]) - {"freq_cos", "freq_sin"}
