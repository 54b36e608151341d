"""What a request asks of a model, checked before its first token is made."""

from __future__ import annotations

from pathlib import Path

from ingot.core.errors import fail
from ingot.infer.options import Sampling
from ingot.text.tokenizer import Tokenizer


def check(own: Sampling, vocab_size: int, tokenizer: Tokenizer | None, path: Path) -> None:
    """Raises `token-outside`, `stop-without-tokenizer`, `text-without-tokenizer`. `path`: the model's directory."""
    biased = [key for key in own.logit_bias if isinstance(key, int)]
    ids = {"logit_bias": biased, "allowed_token_ids": own.allowed_token_ids or [], "stop_token_ids": own.stop_token_ids}
    for name, found in ids.items():
        if found and max(found) >= vocab_size:
            raise fail("token-outside", where=name, found=max(found), size=vocab_size)
    if tokenizer is not None:
        return
    if own.stop:
        raise fail("stop-without-tokenizer", path=path)
    texts = {"logit_bias": len(biased) < len(own.logit_bias), "bad_words": own.bad_words,
             "force_words": own.force_words, "dry_multiplier": own.dry_multiplier}  # fmt: skip
    for name, asked in texts.items():
        if asked:
            raise fail("text-without-tokenizer", path=path, name=name)
