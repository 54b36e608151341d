"""`tokenizer import`: ids equal to sentencepiece, tiktoken and transformers; bad files are refused by line or field."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import TEXTS as FEW

from ingot.cli import main
from ingot.core.errors import IngotError
from ingot.text.import_verb import PROBES, tokenizer_import
from ingot.text.split import PATTERNS
from ingot.text.tokenizer import Tokenizer

SAMPLES = [
    *PROBES,
    *FEW,
    "",
    " ",
    "   leading and trailing   ",
    "a  b   c\n\n d\t\te",
    "▁ literal ▁▁ marks ▁",
    "ＦＵＬＬ　ｗｉｄｔｈ ﬁ ½ ㍿ Å",
    "naïve café Straße İstanbul",
    "0x1F 3.14159 1,000,000",
    "print(f'{x!r:>{width}}')\n# コメント\n",
    "zzzz" * 20,
    "\u200b\ufeff\u0000x",
    "<0x41> <s> </s> <unk>",
]
texts = st.one_of(
    st.text(max_size=40),
    st.text("ab cdeThe12 好天。,\n\té▁<>s/😀", max_size=60),
    st.lists(st.sampled_from(SAMPLES)).map(" ".join),
)


def train_sentencepiece(path: Path, **options: Any) -> Path:
    """A small model on sentences of a few languages."""
    model = io.BytesIO()
    sentences = [sentence for text in SAMPLES for sentence in text.splitlines() if sentence.strip()] * 3
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, minloglevel=2, num_threads=1,
        character_coverage=0.98, hard_vocab_limit=False, **options,
    )  # fmt: skip
    path.write_bytes(model.getvalue())
    return path


KINDS: dict[str, dict[str, Any]] = {
    "unigram": {"model_type": "unigram", "vocab_size": 300},
    "unigram, bytes": {"model_type": "unigram", "vocab_size": 500, "byte_fallback": True},
    "bpe, bytes (llama)": {
        "model_type": "bpe", "vocab_size": 600, "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "split_digits": True,
    },
    "bpe, no prefix (gemma)": {
        "model_type": "bpe", "vocab_size": 600, "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "add_dummy_prefix": False,
    },
    "bpe, spaces removed": {"model_type": "bpe", "vocab_size": 400},
}  # fmt: skip


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Tokenizer, Any]]:
    """Each kind as we read it, and sentencepiece's own."""
    root = tmp_path_factory.mktemp("models")
    found = {}
    for number, (name, options) in enumerate(KINDS.items()):
        file = train_sentencepiece(root / f"{number}.model", **options)
        made = tokenizer_import(file, out=root / str(number))
        found[name] = (Tokenizer.open(made.path), sentencepiece.SentencePieceProcessor(model_file=str(file)))
    return found


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=texts)
def test_ids_equal_those_of_sentencepiece(kind: str, imported: Any, text: str) -> None:
    ours, theirs = imported[kind]
    if "\0" in text:
        return  # sentencepiece's binding ends a text there
    assert ours.encode(text) == theirs.encode(text)


@pytest.mark.slow
def test_ids_equal_those_of_sentencepiece_on_its_own_models(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "08_tokenizers"
    lines = [line for file in ("botchan_en.txt", "wagahaiwa_ja.txt", "zh_hant/ud_zh_hant_sentences.txt")
             for line in (real_data / "02_text" / file).read_text().splitlines()[:700]]  # fmt: skip
    lines += Path(__file__).read_text().splitlines()
    files = ("sentencepiece/test_model.model", "sentencepiece/test_ja_model.model", "torchtune/m.model",
             "torchtune/sentencepiece.model")  # fmt: skip
    for number, file in enumerate(files):
        ours = Tokenizer.open(tokenizer_import(folder / file, out=tmp_path / str(number)).path)
        theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / file))
        # A long run of one character can be cut in equally likely ways: floats of 32 and 64 bits choose differently.
        kept = [line for line in [*lines, *SAMPLES] if "\0" not in line and "-----" not in line]
        differ = [line for line in kept if ours.encode(line) != theirs.encode(line)]
        assert differ == []
        assert ours.vocab_size == theirs.vocab_size()
        assert (ours.eos_id, ours.unk_id) == (theirs.eos_id(), theirs.unk_id())


# ---- tiktoken


def write_ranks(path: Path, ranks: dict[bytes, int]) -> Path:
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
    return path


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    """Bytes, pairs and words, with some that no merge of two makes."""
    found = {bytes([byte]): (byte * 7) % 256 for byte in range(256)}
    for token in (
        "th",
        " t",
        "he",
        " th",
        "the",
        " the",
        "in",
        "ing",
        "aa",
        "aaaa",
        "12",
        "  ",
        "\n\n",
        "好",
        "天氣",
        "zqzq",
    ):
        for part in [token.encode()[:n] for n in range(2, len(token.encode()))] if token > "\x7f" else []:
            found.setdefault(part, len(found))
        found.setdefault(token.encode(), len(found))
    return found


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_ids_equal_those_of_tiktoken(pattern: str, ranks: dict[bytes, int], tmp_path: Path) -> None:
    file = write_ranks(tmp_path / "tiny.tiktoken", ranks)
    special = {"<|endoftext|>": 900, "<|fim|>": 901}
    made = tokenizer_import(
        file, out=tmp_path / "out", pattern=pattern, special=[f"{n}={i}" for n, i in special.items()]
    )
    ours = Tokenizer.open(made.path)
    theirs = tiktoken.Encoding("t", pat_str=official(pattern), mergeable_ranks=ranks, special_tokens=special)

    @settings(max_examples=60, deadline=None)
    @given(texts)
    def equal(text: str) -> None:
        assert ours.encode(text) == theirs.encode_ordinary(text)
        assert ours.encode(f"{text}<|fim|>", special=True) == theirs.encode(f"{text}<|fim|>", allowed_special="all")
        assert ours.decode(ours.encode(text)) == text

    equal()
    assert (ours.eos_id, ours.vocab_size) == (900, 902)


def official(pattern: str) -> str:
    """tiktoken's own pattern where it has one."""
    import inspect

    import tiktoken_ext.openai_public as public

    if pattern == "gpt2":
        return str(public.r50k_pat_str)
    source = inspect.getsource(public.cl100k_base)
    return source.split('r"""')[1].split('"""')[0] if pattern == "cl100k" else PATTERNS[pattern]


def test_a_real_rank_file(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "08_tokenizers/torchtune/tiktoken_small.model"
    ours = Tokenizer.open(tokenizer_import(file, out=tmp_path / "out", pattern="llama3").path)
    read = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in file.read_text().splitlines()}
    theirs = tiktoken.Encoding("t", pat_str=PATTERNS["llama3"], mergeable_ranks=read, special_tokens={})
    for text in [*SAMPLES, (real_data / "02_text/wizard_of_oz.txt").read_text()]:
        assert ours.encode(text) == theirs.encode_ordinary(text)


# ---- GPT-2 and BERT


@pytest.mark.peers
def test_gpt2_files_give_the_ids_of_transformers(real_data: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = real_data / "08_tokenizers/cs336"
    (tmp_path / "vocab.json").write_bytes((folder / "gpt2_vocab.json").read_bytes())
    (tmp_path / "merges.txt").write_bytes((folder / "gpt2_merges.txt").read_bytes())
    made = tokenizer_import(tmp_path, out=tmp_path / "out")
    ours = Tokenizer.open(made.path)
    assert (ours.eos_id, ours.vocab_size) == (50256, 50257)
    given = (real_data / "08_tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf.inp").read_text()
    expected = (real_data / "08_tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf.out").read_text().splitlines()
    for text, line in zip(given.split("\n__ggml_vocab_test__\n")[:-1], expected, strict=True):
        assert ours.encode(text) == [int(id) for id in line.split()]
    theirs = AutoTokenizer.from_pretrained(made.path)
    for text in SAMPLES:
        assert theirs(text)["input_ids"] == ours.encode(text)


VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "qui",
    "##ck",
    "fox",
    ",",
    "!",
    "1",
    "##2",
    "天",
    "氣",
    "cafe",
    "##s",
    "a",
]


@pytest.mark.peers
@pytest.mark.parametrize("lowercase", [True, False])
def test_vocab_txt_gives_the_ids_of_transformers(lowercase: bool, tmp_path: Path) -> None:
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join([*VOCAB, "Fox"] if not lowercase else VOCAB) + "\n")
    made = tokenizer_import(tmp_path / "vocab.txt", out=tmp_path / "out")
    assert made.summary()["lowercase"] is lowercase
    ours = Tokenizer.open(made.path)
    theirs = BertTokenizer.from_pretrained(str(tmp_path), do_lower_case=lowercase)
    for text in [*SAMPLES[:-1], "The quick Fox, the quicks! 12 天氣 Cafés cafés a"]:
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
    assert ours.encode_document("the")[0] == ours.id("[CLS]")
    assert (ours.unk_id, ours.pad_id) == (1, 0)


# ---- refusals


@pytest.mark.parametrize(
    ("name", "content", "options", "code", "says"),
    [
        ("a.model", b"\x0a\x05\x0a\x03abc\x15\0\0", {}, "bad-token-file", "piece 1"),
        ("a.model", b"", {}, "bad-token-file", "no pieces"),
        ("a.model", b"\x0a\x03\x0a\x01a\x0a\x03\x0a\x01a", {}, "bad-token-file", "piece 1: 'a' is piece 0"),
        ("a.model", b"\x0a\x03\x0a\x01a", {}, "bad-token-file", "unk_id"),
        ("a.model", b"\x0a\x05\x0a\x01a\x18\x02\x12\x02\x18\x04", {}, "unsupported-token-file", "model type char"),
        ("a.model", b"\x0a\x05\x0a\x01a\x18\x02\x0a\x05\x0a\x01b\x18\x05", {}, "unsupported-token-file", "unused"),
        ("a.model", b"\x0a\x05\x0a\x01a\x18\x02", {"pattern": "gpt2"}, "setting-not-used", "pattern"),
        ("a.tiktoken", b"IQ== 0\n", {}, "pattern-needed", "cl100k"),
        ("a.tiktoken", b"IQ== 0\n", {"pattern": "gpt3"}, "unknown-pattern", "gpt2"),
        ("a.tiktoken", b"IQ== 0\n", {"pattern": "gpt2"}, "bad-token-file", "0x00"),
        ("a.tiktoken", b"IQ== 0\nIQ== 1\n", {"pattern": "gpt2"}, "bad-token-file", "line 2"),
        ("a.tiktoken", b"IQ== 0\n!! 1\n", {"pattern": "gpt2"}, "bad-token-file", "line 2"),
        ("a.tiktoken", b"IQ== 0\n", {"pattern": "gpt2", "special": ["<a>"]}, "bad-special", "<a>"),
        ("vocab.txt", b"[UNK]\n[CLS]\n[SEP]\na\na\n", {}, "bad-token-file", "line 5"),
        ("vocab.txt", b"[UNK]\n\xff\n", {}, "bad-token-file", "line 2"),
        ("vocab.txt", b"[UNK]\n[SEP]\n", {}, "bad-token-file", "[CLS]"),
        ("vocab.json", b'{"a": 0, "b": 0}', {}, "bad-token-file", "'b'"),
        ("vocab.json", b'{"a": "x"}', {}, "bad-token-file", "'a'"),
        ("vocab.json", b"{", {}, "bad-json", "vocab.json"),
        ("vocab.json", b'{"a": 0}', {}, "bad-token-file", "bytes"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(name: str, content: bytes, options: Any, code: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(IngotError) as caught:
        tokenizer_import(tmp_path / name, out=tmp_path / "out", **options)
    assert caught.value.code == code
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "says"), [("a b", "no 'ab'"), ("a z", "no 'z'"), ("a", "two tokens"), ("a c\na c", "line 3")]
)
def test_bad_merges_are_refused_by_line(line: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "c": 2, "ac": 3}))
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{line}\n")
    with pytest.raises(IngotError, match=says) as caught:
        tokenizer_import(tmp_path / "vocab.json", out=tmp_path / "out")
    assert "merges.txt, line" in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60))
def test_no_bytes_break_the_reader(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / "x.model").write_bytes(content)
    with pytest.raises(IngotError):
        tokenizer_import(root / "x.model", out=root / "out")


def test_the_command_line(ranks: dict[bytes, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_ranks(tmp_path / "x.tiktoken", ranks)
    arguments = ["tokenizer", "import", str(file), "--out", str(tmp_path / "out"), "--pattern", "gpt2"]
    assert main([*arguments, "--special", "<|endoftext|>=999"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (shown["vocab_size"], shown["format"]) == (1000, "tiktoken")
    step = json.loads((tmp_path / "out/hallmark.json").read_text())["step"]
    assert all(proof["difference"] == 0 for proof in step["proof"])
