"""The verb `tokenizer import`: a tokenizer in another tool's file becomes a proven tokenizer directory.

Proven on the directory as written: every token has the id it has in the file; where no text may be lost, probes come
back; and rank files give tiktoken's own ids on the probes.
"""

from __future__ import annotations

from pathlib import Path

from ingot.core.errors import fail
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.options import Options, argument, option, required, verb
from ingot.core.progress import say, warn
from ingot.text.chat import render
from ingot.text.formats import FORMATS, format_of
from ingot.text.formats.parts import Imported, Settings
from ingot.text.formats.tiktoken import read_ranks
from ingot.text.save import save
from ingot.text.split import PATTERNS
from ingot.text.tokenizer import Tokenizer

PROBES = (
    "The quick brown fox doesn't jump over 12,345 lazy dogs!",
    "今天的天氣很好，我們一起去臺北看展覽吧！「好」",
    "def f(x):\n    return [i ** 2 for i in range(x)]  # ünïcode\r\n\r\n\tpass  \n",
    "日本語とКириллица عربى 한국어 😀👩‍🔬 e\u0301 \u00a0\u3000 end  ",
)
USED: dict[str, tuple[str, ...]] = {
    "sentencepiece": (),
    "tiktoken": ("pattern", "special"),
    "vocab.txt": ("lowercase",),
    "vocab.json": ("pattern",),
    "gguf": ("pattern", "lowercase"),
}
"""The settings that each format reads."""


class TokenizerImportOptions(Options):
    """Options of `tokenizer import`."""

    file: Path = argument(
        "a sentencepiece .model, a tiktoken rank file, vocab.txt, vocab.json (with merges.txt), or a GGUF file"
    )
    out: Path = required("the tokenizer directory to write")
    pattern: str | None = option(
        None,
        "how text is cut (rank files and a GGUF that names none need it; vocab.json: gpt2): gpt2, "
        "cl100k, o200k, llama3, qwen2, ingot",
    )
    special: list[str] = option([], "a special token and its id, as '<|endoftext|>=50256' (rank files; repeatable)")
    lowercase: bool | None = option(None, "vocab.txt, BERT in GGUF: lower the text (default: if no token has capitals)")
    chat_template: Path | None = option(
        None, "a Jinja file to write conversations with (default: the one in a GGUF, else none)"
    )


@verb(TokenizerImportOptions)
def tokenizer_import(options: TokenizerImportOptions) -> ModelDir:
    """Read a tokenizer of another tool. The directory gives the same ids, here and in transformers' AutoTokenizer."""
    format = format_of(options.file)
    for name in ("pattern", "special", "lowercase"):
        if getattr(options, name) not in (None, []) and name not in USED[format]:
            raise fail("setting-not-used", name=name, path=options.file, format=format)
    if options.chat_template and not options.chat_template.exists():
        raise fail("no-such-file", path=options.chat_template)
    template = options.chat_template.read_text(encoding="utf-8") if options.chat_template else None
    settings = Settings(options.pattern, _specials(options.special), options.lowercase)
    with ModelDir.create(options.out, "tokenizer import", options) as draft:
        draft.read_data(options.file)
        imported = FORMATS[format](options.file, settings)
        template = imported.chat_template if template is None else template
        save(imported.backend, draft.path, imported.roles, template, **imported.config)
        opened = Tokenizer.open(draft.path)
        _prove(draft, opened, imported)
        if format == "tiktoken":
            _prove_tiktoken(draft, opened, options.file, settings)
        if template is not None:
            turns = [{"role": "user", "content": "hello 你好"}, {"role": "assistant", "content": "yes 好"}]
            nothing = not any(render(turns, opened).mask)
            draft.prove("conversations without a token to learn", "one chat", float(nothing))
        draft.numbers = {"format": format, "vocab_size": opened.vocab_size, **imported.numbers}
    if imported.numbers.get("normalisation_map"):
        warn("normaliser-stacks", path=options.file)
    if imported.numbers.get("model_type") == "unigram":
        warn("unigram-runs", path=options.file)
    if count := imported.numbers.get("bytes_without_token"):
        warn("bytes-without-token", path=options.file, count=count)
    say("tokenizer-imported", out=options.out, path=options.file, **draft.numbers)
    return ModelDir.open(options.out)


def _specials(given: list[str]) -> dict[str, int]:
    found = {}
    for item in given:
        name, _, id = item.rpartition("=")
        if not name or not id.isdecimal():
            raise fail("bad-special", found=item)
        found[name] = int(id)
    return found


def _prove(draft: Draft, opened: Tokenizer, imported: Imported) -> None:
    moved = sum(opened.id(token) != id for token, id in imported.vocabulary.items())
    draft.prove("tokens with another id than in the file", f"{len(imported.vocabulary)} tokens", moved)
    written = {opened.token(id) for id in range(opened.vocab_size)} - {None}
    draft.prove("tokens not in the file", f"{opened.vocab_size} ids", len(written - imported.vocabulary.keys()))
    if imported.lossless:
        lost = sum(opened.decode(opened.encode(text)) != text for text in PROBES)
        draft.prove("texts that decode(encode(x)) changes", f"{len(PROBES)} probe texts", lost)


def _prove_tiktoken(draft: Draft, opened: Tokenizer, file: Path, settings: Settings) -> None:
    """The ids of tiktoken itself."""
    import tiktoken

    pattern = PATTERNS[settings.pattern or ""]
    theirs = tiktoken.Encoding("probe", pat_str=pattern, mergeable_ranks=read_ranks(file), special_tokens={})
    differ = sum(opened.encode(text) != theirs.encode_ordinary(text) for text in PROBES)
    draft.prove("texts whose ids differ from tiktoken's", f"{len(PROBES)} probe texts", differ)
