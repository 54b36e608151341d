"""Adapters that requests ask for by name, beside the model's own, in one server."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_serve_verb import start

from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.infer.embed import embed
from ingot.infer.engine import generate
from ingot.infer.sampling import Sampling
from ingot.serve.serve import serve
from tiny import write_model

sys.path.insert(0, str(Path(__file__).parents[1] / "adapt"))
from adapting import write

OWN = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}


@pytest.mark.slow
def test_each_name_is_answered_by_its_adapter(tmp_path: Path, tokenizer_dir: Path) -> None:
    """The same prompt to three models at once, several times: texts, vectors, the list, and a name that is none."""
    base = write_model(tmp_path / "base", tokenizer=tokenizer_dir)
    a, b = write(tmp_path / "a", base, "lora", 1), write(tmp_path / "b", base, "ia3", 2)
    alone = {"base": load(base), "polite": load(f"{base}+{a}"), "terse": load(f"{base}+{b}")}
    ids = alone["base"].tokenizer.encode("the cat sat on the mat and the dog ran to the man")
    expected = {name: generate(model, [ids], Sampling(**OWN))[0].text for name, model in alone.items()}
    assert len(set(expected.values())) == 3
    process, url = start(base, "--adapter", f"polite={a}", "--adapter", f"terse={b}")
    try:
        with httpx.Client(base_url=url, timeout=30) as client:
            assert [card["id"] for card in client.get("/v1/models").json()["data"]] == list(alone)

            def ask(name: str) -> dict[str, Any]:
                found: dict[str, Any] = client.post(
                    "/v1/completions", json={"model": name, "prompt": ids, **OWN}
                ).json()
                return found

            with ThreadPoolExecutor(9) as pool:
                for name, body in zip(list(alone) * 3, pool.map(ask, list(alone) * 3), strict=True):
                    assert (body["model"], body["choices"][0]["text"]) == (name, expected[name])
            for name, model in alone.items():
                body = client.post("/v1/embeddings", json={"model": name, "input": "the cat"}).json()
                assert body["data"][0]["embedding"] == pytest.approx(embed(model, ["the cat"])[0].tolist(), abs=1e-5)
            assert ask("rude")["error"]["param"] == "model"
    finally:
        process.terminate()
        assert process.wait(30) == 0
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("given", ["a", "=b", "a=", "a=x,a=y"])
def test_what_is_no_name_and_directory_is_refused(tmp_path: Path, tokenizer_dir: Path, given: str) -> None:
    base = write_model(tmp_path / "base", tokenizer=tokenizer_dir)
    with pytest.raises(IngotError) as error:
        serve(model=str(base), port=0, adapter=given.split(","), probe="x")
    assert error.value.code == "serve-adapter"
