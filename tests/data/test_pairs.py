"""Preferences: every form becomes the same pair, what is wrong is named by line, and only the answers are targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingot.core.errors import IngotError
from ingot.data.fit import fit_labelled, fit_pairs
from ingot.data.pairs import (
    Labelled,
    Pair,
    RenderedPair,
    contradictions,
    read_labelled,
    read_pairs,
    render_labelled,
    render_pairs,
    repeats,
)
from ingot.text.chat import Rendered, render
from ingot.text.tokenizer import Tokenizer
from tiny import write_tokenizer

PROMPT = [{"role": "user", "content": "問 q"}]
GOOD, BAD = {"role": "assistant", "content": "答 a"}, {"role": "assistant", "content": "no"}
EARLIER = [{"role": "user", "content": "e"}, {"role": "assistant", "content": "f"}]
SYSTEM = {"role": "system", "content": "s"}
HUMAN = [{"from": "human", "value": "問 q"}]
GPT = [{"from": "gpt", "value": "答 a"}, {"from": "gpt", "value": "no"}]


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


FORMS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "strings": ({"prompt": "問 q", "chosen": "答 a", "rejected": "no"}, PROMPT),
    "messages": ({"prompt": PROMPT, "chosen": [GOOD], "rejected": [BAD]}, PROMPT),
    "turns": ({"prompt": PROMPT, "chosen": GOOD, "rejected": BAD}, PROMPT),
    "shared beginning": ({"chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]}, PROMPT),
    "shared, longer": ({"chosen": [SYSTEM, *EARLIER, *PROMPT, GOOD], "rejected": [SYSTEM, *EARLIER, *PROMPT, BAD]},
                       [SYSTEM, *EARLIER, *PROMPT]),
    "prompt and whole": ({"prompt": "問 q", "chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]}, PROMPT),
    "system beside": ({"system": "s", "prompt": "問 q", "chosen": "答 a", "rejected": "no"}, [SYSTEM, *PROMPT]),
    "sharegpt": ({"conversations": HUMAN, "chosen": GPT[0], "rejected": GPT[1]}, PROMPT),
    "sharegpt, strings": ({"conversations": HUMAN, "chosen": "答 a", "rejected": "no"}, PROMPT),
    "messages, then": ({"messages": [*EARLIER, *PROMPT], "chosen": GOOD, "rejected": BAD}, [*EARLIER, *PROMPT]),
    "ranked": ({"instruction": "問", "input": "q", "output": ["答 a", "no"], "history": [["e", "f"]]},
               [*EARLIER, {"role": "user", "content": "問\n\nq"}]),
    "alpaca": ({"instruction": "問 q", "chosen": "答 a", "rejected": "no"}, PROMPT),
    "question": ({"system": "s", "question": "問 q", "chosen": "答 a", "rejected": "no"}, [SYSTEM, *PROMPT]),
    "stack exchange": ({"question": "問 q", "response_j": "答 a", "response_k": "no"}, PROMPT),
    "hh": ({"chosen": "\n\nHuman: e\n\nAssistant: f\n\nHuman: 問 q\n\nAssistant: 答 a",
            "rejected": "\n\nHuman: e\n\nAssistant: f\n\nHuman: 問 q\n\nAssistant: no"}, [*EARLIER, *PROMPT]),
    "hh with its prompt": ({"prompt": "\n\nHuman: e\n\nAssistant: f\n\nHuman: 問 q\n\nAssistant:", "chosen": "答 a",
                            "rejected": "no"}, [*EARLIER, *PROMPT]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_form_becomes_the_same_pair(name: str, tmp_path: Path) -> None:
    record, prompt = FORMS[name]
    (pair,) = read_pairs(write(tmp_path / "a.jsonl", record))
    assert (pair.prompt, pair.chosen, pair.rejected, pair.line) == (prompt, [GOOD], [BAD], 1)
    assert (pair.tools, pair.unread) == (None, ())


ASKED = {"prompt": "q", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("record", "code", "word"),
    [
        ({**ASKED, "rejected": "a"}, "bad-chat", "are the same"),
        ({**ASKED, "rejected": " "}, "bad-chat", "message 2: the answer is empty"),
        ({**ASKED, "chosen": ""}, "bad-chat", "message 2: the answer is empty"),
        ({**ASKED, "chosen": 3}, "bad-chat", "message 2: its content"),
        ({**ASKED, "prompt": None}, "bad-chat", "message 1: it has no content"),
        ({"prompt": "q", "chosen": "a"}, "other-kind", "conversation"),
        ({"chosen": "a", "rejected": "b"}, "bad-chat", "no prompt"),
        ({"messages": [*PROMPT, GOOD]}, "other-kind", "conversation"),
        ({"messages": [*PROMPT, GOOD], "label": True}, "other-kind", "labelled"),
        ({"instruction": "q", "output": ["a"]}, "bad-chat", "two answers"),
        ({"chosen": [*PROMPT, GOOD], "rejected": [{"role": "user", "content": "x"}, BAD]}, "bad-chat", "message 1"),
        ({"chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, GOOD]}, "bad-chat", "are the same"),
        ({"chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, GOOD, *PROMPT, BAD]}, "bad-chat", "message 3"),
        ({"chosen": [GOOD], "rejected": [BAD]}, "bad-chat", "message 1"),
        ({"prompt": "other", "chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]}, "bad-chat", "other"),
        ({"prompt": [*PROMPT, GOOD], "chosen": "x", "rejected": "y"}, "bad-chat", "two assistant"),
        ({"prompt": "q", "chosen": [GOOD, *PROMPT], "rejected": [BAD]}, "bad-chat", "message 2 must be"),
        ({"prompt": PROMPT, "chosen": [{**GOOD, "weight": 0}], "rejected": [BAD]}, "bad-chat", "weight"),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a\n\nAssistant: b", "rejected": "\n\nHuman: q\n\nAssistant: a"},
         "bad-chat", "part at message 3"),
        ({"chosen": "\n\nHuman: q\n\nAssistant:", "rejected": "\n\nHuman: q\n\nAssistant: a"},
         "bad-chat", "message 2: the answer is empty"),
        ({**ASKED, "rejected": "\udc00"}, "bad-record", "surrogate"),
        ({**ASKED, "tools": "x"}, "bad-chat", "tools"),
    ],
)  # fmt: skip
def test_wrong_pairs_are_refused_by_line(record: Any, code: str, word: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ASKED, record)
    with pytest.raises(IngotError, match=word) as caught:
        read_pairs(path)
    assert (caught.value.code, caught.value.details["line"]) == (code, 2)
    assert [pair.line for pair in read_pairs(path, skip_bad=True)] == [1]


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ASKED)
    path.write_bytes(path.read_bytes() + b'{"prompt": "\xff"}\n')
    with pytest.raises(IngotError, match=r"0xff.*line 2") as caught:
        read_pairs(path)
    assert caught.value.code == "not-utf8"


def test_repeats_and_contradictions_are_said_before_anything_trains(
    tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    turned = {**ASKED, "chosen": "b", "rejected": "a"}
    pairs = read_pairs(write(tmp_path / "a.jsonl", ASKED, {**ASKED, "id": 1}, turned, ASKED, {**ASKED, "prompt": "z"}))
    assert repeats(pairs) == [(2, 1), (4, 1)]
    assert contradictions(pairs) == [(3, 1), (4, 3)]
    assert len(pairs) == 5
    assert "2 pairs repeat an earlier one (2, 4)" in heard.text
    assert "2 pairs prefer what an earlier one rejects (3, 4)" in heard.text


def test_rankings_of_more_than_two_are_said(tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    ranked = {"instruction": "q", "output": ["a", "b", "c"]}
    (pair,) = read_pairs(write(tmp_path / "a.jsonl", ranked))
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"], pair.ranked) == ("a", "b", 3)
    assert "1 records rank more than two" in heard.text


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [*EARLIER, *PROMPT, GOOD], "label": True},
        {
            "conversations": [{"from": "human", "value": "e"}, {"from": "gpt", "value": "f"}, *HUMAN, GPT[0]],
            "kto_tag": True,
        },
        {"prompt": [*EARLIER, *PROMPT], "completion": [GOOD], "label": True},
        {"instruction": "問 q", "output": "答 a", "history": [["e", "f"]], "kto_tag": True},
    ],
)
def test_every_form_becomes_the_same_labelled_answer(record: Any, tmp_path: Path) -> None:
    bad = {"messages": [*PROMPT, BAD], "label": False}
    found = read_labelled(write(tmp_path / "a.jsonl", record, bad))
    assert [one[:4] for one in found] == [([*EARLIER, *PROMPT], [GOOD], True, 1), (PROMPT, [BAD], False, 2)]
    assert [one.unread for one in found] == [(), ()]


@pytest.mark.parametrize(
    ("record", "code", "word"),
    [
        ({"messages": [*PROMPT, GOOD], "kto_tag": "yes"}, "bad-chat", "true or false"),
        ({"messages": [*PROMPT, GOOD], "kto_tag": True, "label": False}, "bad-chat", "true or false"),
        ({"messages": [*PROMPT, GOOD]}, "other-kind", "conversation"),
        ({"messages": [*PROMPT, GOOD], "label": "good"}, "other-kind", "conversation"),
        ({"messages": PROMPT, "label": True}, "bad-chat", "no assistant"),
        ({"messages": [*PROMPT, GOOD, *PROMPT], "label": True}, "bad-chat", "message 3 must be"),
        ({"text": "x", "label": True}, "unknown-chat-format", "text"),
    ],
)
def test_wrong_labels_are_refused_by_line(record: Any, code: str, word: str, tmp_path: Path) -> None:
    fine = {"messages": [*PROMPT, GOOD], "label": True}
    with pytest.raises(IngotError, match=word) as caught:
        read_labelled(write(tmp_path / "a.jsonl", fine, record))
    assert (caught.value.code, caught.value.details["line"]) == (code, 2)


def test_answers_all_good_or_all_bad_are_refused(tmp_path: Path) -> None:
    fine = {"messages": [*PROMPT, GOOD], "label": True}
    with pytest.raises(IngotError, match="all 2") as caught:
        read_labelled(write(tmp_path / "a.jsonl", fine, {**fine, "id": 1}))
    assert caught.value.code == "one-label"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.open(write_tokenizer(tmp_path_factory.mktemp("pairs") / "tok"))


def test_both_sides_begin_with_the_prompt_and_only_answers_are_targets(tokenizer: Tokenizer) -> None:
    pairs = [Pair(prompt, [GOOD], [BAD], line) for line, prompt in enumerate([PROMPT, [SYSTEM, *EARLIER, *PROMPT]])]
    for pair, found in zip(pairs, render_pairs(pairs, tokenizer), strict=True):
        asked = render(pair.prompt, tokenizer, add_generation_prompt=True).ids
        assert (found.prompt, found.line) == (len(asked), pair.line)
        for side, answer in ((found.chosen, pair.chosen), (found.rejected, pair.rejected)):
            assert side.ids == render([*pair.prompt, *answer], tokenizer).ids
            assert side.ids[: found.prompt] == asked
            assert not any(side.mask[: found.prompt])
            learnt = [id for id, target in zip(side.ids, side.mask, strict=True) if target]
            assert tokenizer.decode(learnt, skip_special=False) == f"{answer[0]['content']}<|im_end|>"


def test_labelled_answers_are_rendered_like_sides(tokenizer: Tokenizer) -> None:
    (pair,) = render_pairs([Pair([*EARLIER, *PROMPT], [GOOD], [BAD], 7)], tokenizer)
    for answer, side in ((GOOD, pair.chosen), (BAD, pair.rejected)):
        (found,) = render_labelled([Labelled([*EARLIER, *PROMPT], [answer], answer is GOOD, 7)], tokenizer)
        assert found == (side, answer is GOOD, pair.prompt, 7)


def template(tokenizer: Tokenizer, source: str, tmp_path: Path) -> Tokenizer:
    out = tmp_path / "other"
    out.mkdir()
    for file in tokenizer.path.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    (out / "chat_template.jinja").write_text(source)
    return Tokenizer.open(out)


def test_answers_that_the_template_writes_alike_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    trims = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    pair = Pair(PROMPT, [GOOD], [{**GOOD, "content": " 答 a\n"}], 41)
    with pytest.raises(IngotError, match="41") as caught:
        render_pairs([pair], template(tokenizer, trims, tmp_path))
    assert caught.value.code == "pair-not-told-apart"


def test_prompts_that_change_with_the_answer_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tagged = "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    turn = f"{{% if m.role == 'assistant' %}}{tagged}{{% else %}}{{{{ m.content }}}}<|im_end|>{{% endif %}}"
    counts = (
        f"{{{{ messages[-1].content[:2] }}}}{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{turn}{{% endfor %}}"
    )
    with pytest.raises(IngotError, match="41") as caught:
        render_pairs([Pair(PROMPT, [GOOD], [BAD], 41)], template(tokenizer, counts, tmp_path))
    assert caught.value.code == "pair-prompt-changes"


def test_what_is_longer_than_the_window_is_refused_or_left_out(heard: pytest.LogCaptureFixture) -> None:
    def side(size: int) -> Rendered:
        return Rendered("", [1] * size, [False] + [True] * (size - 1))

    pairs = [
        RenderedPair(side(5), side(5), 1, 3),
        RenderedPair(side(5), side(9), 1, 4),
        RenderedPair(side(8), side(2), 1, 6),
    ]
    assert fit_pairs(pairs, 9) == pairs
    with pytest.raises(IngotError, match=r"2 of 3 .*window of 6 tokens: 4, 6.* line 4, has 9"):
        fit_pairs(pairs, 6)
    assert fit_pairs(pairs, 6, skip_long=True) == pairs[:1]
    assert "2 of 3 are longer than the window of 6 tokens and were left out (4, 6)" in heard.text
    with pytest.raises(IngotError, match="3 of 3"):
        fit_pairs(pairs, 4, skip_long=True)
    assert fit_labelled([], 4) == []


@pytest.mark.parametrize(
    ("name", "count", "bad"),
    [
        ("llamafactory/dpo_en_demo.json", 300, 0),
        ("llamafactory/dpo_zh_demo.json", 300, 0),
        ("llamafactory/oaast_rm_zh.json", 772, 3),
        ("hh-rlhf/harmless-base-test.jsonl.gz", 2299, 13),
        ("torchtune_assets/stack_exchange_paired_tiny.json", 25, 0),
    ],
)
def test_real_pairs_are_read(name: str, count: int, bad: int, real_data: Path) -> None:
    path = real_data / "03_instruct" / name
    if bad:
        with pytest.raises(IngotError, match=f"{bad - 1} more are wrong"):
            read_pairs(path)
    pairs = read_pairs(path, skip_bad=bad > 0)
    assert len(pairs) == count
    assert all(pair.prompt[-1]["role"] == "user" and pair.chosen != pair.rejected for pair in pairs)


def test_real_labels_are_read(real_data: Path) -> None:
    found = read_labelled(real_data / "03_instruct/llamafactory/kto_en_demo.json")
    assert (len(found), sum(one.good for one in found)) == (300, 150)
