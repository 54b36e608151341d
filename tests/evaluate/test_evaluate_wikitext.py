"""Task `wikitext` against lm-eval's own rules, and perplexity by word, character and byte."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from evaluating import compared, options_for, write_lines

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError
from ingot.data.read import Document
from ingot.evaluate import perplexity, wikitext
from ingot.evaluate.evaluate import TASKS

PAGE = (
    ' = The cat = \n \n The cats \' mat , 3 @.@ 5 m wide ( and " flat " ) , was sold in 1999 @-@ 2000 ; see [ a ] . '
    "\n = = Later = = \n It 's here : N ° C . \n"
)


def test_a_page_without_its_extra_spaces() -> None:
    found = wikitext.unspaced(PAGE)
    assert '(and "flat"), was sold in 1999-2000; see [a].' in found
    assert "3.5 m wide" in found
    assert "== Later ==" in found


def test_rules_are_those_of_lm_eval(real_data: Path) -> None:
    """INGOT_LM_EVAL: a python that has lm-eval."""
    python = os.environ.get("INGOT_LM_EVAL")
    if python is None:
        pytest.skip("INGOT_LM_EVAL names no python with lm-eval")
    text = (real_data / "02_text/wikitext-2/wiki.test.tokens.txt").read_text()[:100_000]
    program = (
        "import sys, json; from lm_eval.tasks.wikitext.preprocess_wikitext import wikitext_detokenizer as f;"
        "print(json.dumps([f({'page': page}) for page in json.load(sys.stdin)]))"
    )
    pages = [PAGE, text]
    found = subprocess.run([python, "-c", program], input=json.dumps(pages), capture_output=True, text=True, check=True)
    assert [wikitext.unspaced(page) for page in pages] == json.loads(found.stdout.splitlines()[-1])


def rolling(ids: list[int], size: int) -> list[tuple[list[int], list[int]]]:
    """lm-eval's get_rolling_token_windows with context_len 1: (what is read, what is predicted)."""
    prefix, tokens = ids[0], ids[1:]
    first = min(size, len(tokens))
    found = [([prefix, *tokens[: first - 1]], tokens[:first])]
    predicted = first
    while predicted < len(tokens):
        count = min(len(tokens) - predicted, size)
        end = predicted + count
        found.append((tokens[end - size - 1 : end - 1], tokens[end - count : end]))
        predicted = end
    return found


@pytest.mark.parametrize("length", [1, 4, 5, 6, 10, 13])
def test_windows_are_those_of_lm_eval(length: int) -> None:
    ids = list(range(100, 101 + length))
    found = [(list(query.ids), list(query.targets)) for query in wikitext.windows(ids, 5)]
    assert found == rolling(ids, 5)


def test_figures_by_hand(model: LanguageModel) -> None:
    pages = [Document(PAGE, "w.txt", 1), Document("a", "w.txt", 9)]
    rows = wikitext.measure(model, pages, options_for(Path("x"), window=16))
    nats = 0.0
    for page in pages:
        ids = [model.tokenizer.start_ids[0], *model.tokenizer.encode(wikitext.unspaced(page.text))]
        for read, wanted in rolling(ids, 16):
            logprobs = model.logits([read])[0].double().log_softmax(-1)[-len(wanted) :]
            nats -= sum(float(row[token]) for row, token in zip(logprobs, wanted, strict=True))
    words, size = len(PAGE.split()) + 2 + 1, len(PAGE.encode()) + 1  # an empty piece at either end of the page
    numbers: dict[str, Any] = wikitext.score(compared(rows)).numbers[0]
    assert numbers["wikitext.word_perplexity"].value == pytest.approx(math.exp(nats / words), rel=1e-5)
    assert numbers["wikitext.byte_perplexity"].value == pytest.approx(math.exp(nats / size), rel=1e-5)
    assert numbers["wikitext.bits_per_byte"].value == pytest.approx(nats / size / math.log(2), rel=1e-5)


def test_pages_are_found(tmp_path: Path) -> None:
    path = tmp_path / "wiki.txt"
    path.write_text(" \n = One = \n \n text \n = = Part = = \n more \n = Two = \n end \n")
    found = wikitext.prepare(options_for(path, tasks="wikitext"))
    assert [(page.line, page.text.split()[1]) for page in found] == [(1, "One"), (7, "Two")]
    records = write_lines(tmp_path / "w.jsonl", [{"page": PAGE}])
    assert wikitext.prepare(options_for(records, tasks="wikitext"))[0].text == PAGE
    with pytest.raises(IngotError, match="= Title ="):
        wikitext.prepare(options_for(write_lines(tmp_path / "x.jsonl", [{"text": PAGE}]), tasks="wikitext"))
    assert TASKS["wikitext"].options == ("window",)


def numbers_of(model: LanguageModel, *texts: str) -> tuple[dict[str, Any], float, str]:
    documents = [Document(text, "t.jsonl", line) for line, text in enumerate(texts, start=1)]
    rows = perplexity.measure(model, documents, options_for(Path("x")))
    result = perplexity.score(compared(rows))
    return result.numbers[0], sum(float(row["nats"]) for row in rows), result.sections[1].note  # type: ignore[union-attr]


def test_perplexity_by_every_unit(model: LanguageModel) -> None:
    text = "the cat sat  on the mat\nand the dog " * 60  # a word lies across the blocks
    found, nats, note = numbers_of(model, text)
    for name, count in {"word": len(text.split()), "character": len(text), "byte": len(text.encode())}.items():
        assert found[f"{name}_perplexity"].value == pytest.approx(math.exp(nats / count), rel=1e-6)
    assert "between spaces" in note


def test_a_chinese_text_has_no_words_to_count(model: LanguageModel) -> None:
    found, nats, note = numbers_of(model, "天空是藍色的，草地是綠色的。" * 100)  # 1,400 characters
    assert nats > 709  # beyond math.exp
    assert found["word_perplexity"] is None
    assert "nobody can say what a word is" in note
    assert all(
        math.isfinite(found[f"{name}"].value) for name in ("perplexity", "character_perplexity", "byte_perplexity")
    )


def test_rows_saved_before_words_were_counted(model: LanguageModel) -> None:
    documents = [Document("the cat sat on the mat", "t.jsonl", 1)]
    rows = perplexity.measure(model, documents, options_for(Path("x")))
    old = [{key: value for key, value in row.items() if key not in ("words", "letters", "unspaced")} for row in rows]
    assert perplexity.score(compared(old)).numbers[0]["word_perplexity"] is None
