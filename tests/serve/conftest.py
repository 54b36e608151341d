"""Tiny tokenizers for all tests of the server, and a server whose model may call tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import ROOM, Running, ScriptedEngine, running, tokenizer_of

from ingot.text.tokenizer import Tokenizer
from tiny import write_tokenizer


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tok")


@pytest.fixture(scope="session")
def tokenizer(tokenizer_dir: Path) -> Tokenizer:
    return Tokenizer.open(tokenizer_dir)


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_of(tmp_path_factory.mktemp("qwen") / "tok", "qwen2.5")


@pytest.fixture(scope="module")
def server(qwen: Tokenizer) -> Iterator[Running]:
    """A server that says "cat" until a test gives its engine another script."""
    with running(ScriptedEngine(qwen, "cat"), qwen, slots=4, waiting=8, **ROOM) as found:
        yield found
