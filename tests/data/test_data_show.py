"""data show: the numbers are those of a naive count, nothing wrong stops it, and what it keeps can be trained on."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import pytest

import ingot
from ingot.core.errors import IngotError
from ingot.core.report import Plot, Report, Samples, Table
from ingot.data.chats import read_chats
from ingot.data.pairs import RenderedPair, read_labelled, read_pairs, render_pairs
from ingot.data.show.figures import MOST_BINS, bin_name, bins
from ingot.text.chat import Rendered, render
from ingot.text.tokenizer import Tokenizer
from tiny import write_tokenizer

USER, ANSWER = {"role": "user", "content": "where is the cat"}, {"role": "assistant", "content": "on the mat"}
LONG = {"role": "assistant", "content": "the cat sat on the mat " * 20}


@pytest.fixture(scope="module")
def tok(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("show") / "tok")


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path


OTHER_KIND = (
    "this record is a preference (chosen and rejected), and a conversation is asked for; "
    "keep the kinds in files of their own"
)
CHATS = [
    {"messages": [USER, ANSWER], "id": 1},
    {"messages": [USER]},
    {"instruction": "天空", "output": "藍色"},
    {"messages": [USER, ANSWER]},
    {"messages": [USER, {**ANSWER, "weight": 0}, USER, ANSWER]},
    {"messages": [USER, LONG]},
    {"prompt": "a", "chosen": "b", "rejected": "c"},
]


def test_numbers_are_those_of_a_plain_count(tok: Path, tmp_path: Path) -> None:
    found = ingot.data_show(write(tmp_path / "a.jsonl", *CHATS), model=tok, length=64, out=tmp_path / "out")
    tokenizer = Tokenizer.open(tok)
    chats = [
        ([USER, ANSWER], None),
        ([{"role": "user", "content": "天空"}, {"role": "assistant", "content": "藍色"}], None),
        ([USER, ANSWER], None),
        ([USER, ANSWER, USER, ANSWER], {3}),
        ([USER, LONG], None),
    ]
    rendered = [render(messages, tokenizer, learn=learn) for messages, learn in chats]
    sizes = [len(one.ids) for one in rendered]
    targets = sum(sum(one.mask) for one in rendered)
    fitting = [size for size in sizes if size <= 64]
    assert len(fitting) == 4
    expected = {"chats": 5, "bad_records": 2, "repeated": 1, "longer_than_window": 1, "target_tokens": targets,
                "target_share": targets / sum(sizes), "median_tokens": int(median(sizes)), "longest_tokens": max(sizes),
                "filled_alone_share": sum(fitting) / (64 * 4)}  # fmt: skip
    assert {name: found.numbers[name] for name in expected} == expected
    assert found.numbers["filled_share"] > found.numbers["filled_alone_share"]
    assert found.numbers["kind"] == "chats"
    report = Report.open(tmp_path / "out")
    tables = {section.title: section.rows for section in report.sections if isinstance(section, Table)}
    assert tables["What cannot be trained on"] == [
        ["line 2", "there is no assistant message, so there is nothing to learn"],
        ["line 7", OTHER_KIND],
    ]
    assert tables["Longer than the window"] == [["line 6", max(sizes)]]
    assert tables["What is said again"] == [["line 4", "line 1", "the same"]]
    assert tables["Forms"] == [["messages", 4], ["alpaca", 1]]
    assert tables["Who speaks"] == [["user", 6, 5], ["assistant", 6, 5]]
    assert tables["Keys that are not read"] == [["id", 1]]
    (lengths,) = [section for section in report.sections if isinstance(section, Plot)]
    assert sum(y or 0 for y in lengths.series[0].y) == 5


def test_rows_show_the_text_and_what_is_learnt(tok: Path, tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.jsonl", CHATS[0], CHATS[4])
    ingot.data_show(path, model=tok, rows=1, show_mask=True)
    assert "line 1 · messages · " in heard.text
    assert "<|im_start|>assistant\n⟦on the mat<|im_end|>⟧\n" in heard.text
    assert re.search(r"Tokens: <\|im_start\|>\|.*⟦.*<\|im_end\|>⟧\|⏎", heard.text)
    assert "line 2" not in heard.text
    heard.clear()
    ingot.data_show(path, model=tok, rows=1)
    assert "<|im_start|>assistant\non the mat<|im_end|>\n" in heard.text
    assert "⟦" not in heard.text
    assert "Tokens:" not in heard.text
    heard.clear()
    ingot.data_show(path, model=tok, rows=0)
    assert "im_start" not in heard.text


def test_the_marked_pieces_are_the_text_and_the_marked_tokens_the_mask(tok: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CHATS[4], CHATS[2])
    ingot.data_show(path, model=tok, rows=2, out=tmp_path / "out")
    tokenizer = Tokenizer.open(tok)
    (shown,) = [section for section in Report.open(tmp_path / "out").sections if isinstance(section, Samples)]
    for sample, chat in zip(shown.samples, read_chats(path), strict=True):
        rendered = render(chat.messages, tokenizer, learn=chat.learn)
        (written,) = sample.texts
        assert "".join(piece.text for piece in written.pieces) == rendered.text
        assert [token.learnt for token in written.tokens] == rendered.mask
        learnt = [id for id, target in zip(rendered.ids, rendered.mask, strict=True) if target]
        marked = "".join(piece.text for piece in written.pieces if piece.learnt)
        assert marked == tokenizer.decode(learnt, skip_special=False)
        assert [piece.text for piece in written.pieces if piece.special] == re.findall(r"<\|.*?\|>", rendered.text)


PAIRS = [
    {"prompt": "where is the cat", "chosen": "on the mat, the cat sat on the mat", "rejected": "no"},
    {"prompt": "where is the dog", "chosen": "no", "rejected": "to the man and the dog"},
    {"prompt": "where is the dog", "chosen": "to the man and the dog", "rejected": "no"},
    {"prompt": "where is the dog", "chosen": "same", "rejected": "same"},
]


def test_length_bias_is_that_of_a_plain_count(tok: Path, tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.jsonl", *PAIRS)
    found = ingot.data_show(path, model=tok, rows=1, show_mask=True, out=tmp_path / "out").numbers
    pairs = render_pairs(read_pairs(path, skip_bad=True), Tokenizer.open(tok))
    differences = [sum(pair.chosen.mask) - sum(pair.rejected.mask) for pair in pairs]
    error = 1.96 * stdev(differences) / len(differences) ** 0.5
    assert (found["pairs"], found["bad_records"], found["contradicting"]) == (3, 1, 1)
    assert found["chosen_longer_share"] == sum(d > 0 for d in differences) / 3
    assert found["mean_difference_tokens"] == pytest.approx(fmean(differences))
    assert found["median_difference_tokens"] == median(differences)
    assert f"{fmean(differences):+.1f} (95 % interval {fmean(differences) - error:+.1f}" in heard.text
    assert "chosen is longer in 2 of 3 pairs (66.7%), shorter in 1" in heard.text
    assert "1 pairs prefer what an earlier one rejects (3)" in heard.text
    assert "[Chosen, " in heard.text
    (shown,) = [section for section in Report.open(tmp_path / "out").sections if isinstance(section, Samples)]
    texts = {text.title.split(",")[0]: text for text in shown.samples[0].texts}
    assert [text.half for text in texts.values()] == [False, True, True]
    assert not any(piece.learnt for piece in texts["Prompt"].pieces)
    for name in ("Chosen", "Rejected"):
        side = pairs[0].chosen if name == "Chosen" else pairs[0].rejected
        assert "".join(piece.text for piece in (*texts["Prompt"].pieces, *texts[name].pieces)) == side.text
        assert [t.learnt for t in (*texts["Prompt"].tokens, *texts[name].tokens)] == side.mask


def test_labelled_answers_are_counted(tok: Path, tmp_path: Path) -> None:
    records = [{"messages": [USER, ANSWER], "label": label} for label in (True, False, False)]
    found = ingot.data_show(write(tmp_path / "a.jsonl", *records), model=tok).numbers
    assert (found["labelled"], found["good_share"], found["repeated"]) == (3, 1 / 3, 1)


def test_what_is_kept_can_be_trained_on(tok: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    found = ingot.data_show(write(tmp_path / "a.jsonl", *CHATS), model=tok, length=64, keep=kept).numbers
    assert found["kept"] == 3
    chats = list(read_chats(kept))
    assert [chat.messages for chat in chats] == [
        [USER, ANSWER],
        [{"role": "user", "content": "天空"}, {"role": "assistant", "content": "藍色"}],
        [USER, ANSWER, USER, ANSWER],
    ]
    assert [chat.learn for chat in chats] == [None, None, {3}]
    again = ingot.data_show(kept, model=tok, length=64).numbers
    assert (again["bad_records"], again["repeated"], again["longer_than_window"]) == (0, 0, 0)
    with pytest.raises(IngotError) as caught:
        ingot.data_show(tmp_path / "a.jsonl", model=tok, keep=kept)
    assert caught.value.code == "keep-exists"


def test_pairs_and_labels_are_kept_as_they_are(tok: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *PAIRS)
    ingot.data_show(path, model=tok, keep=tmp_path / "pairs.jsonl")
    before, after = read_pairs(path, skip_bad=True), read_pairs(tmp_path / "pairs.jsonl")
    assert [pair[:3] for pair in after] == [pair[:3] for pair in before]
    labels = write(tmp_path / "b.jsonl", *({"messages": [USER, ANSWER, USER, one], "label": one is ANSWER}
                                           for one in (ANSWER, LONG)))  # fmt: skip
    ingot.data_show(labels, model=tok, keep=tmp_path / "labels.jsonl")
    assert [one[:3] for one in read_labelled(tmp_path / "labels.jsonl")] == [one[:3] for one in read_labelled(labels)]


def test_a_template_that_refuses_some_does_not_stop_it(tok: Path, tmp_path: Path) -> None:
    other = tmp_path / "tok"
    other.mkdir()
    for file in tok.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    source = (tok / "chat_template.jinja").read_text()
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + source
    (other / "chat_template.jinja").write_text(refusing)
    system = {"messages": [{"role": "system", "content": "s"}, USER, ANSWER]}
    found = ingot.data_show(write(tmp_path / "a.jsonl", system, CHATS[0]), model=other, out=tmp_path / "out").numbers
    assert (found["chats"], found["bad_records"]) == (1, 1)
    assert "no system here" in (tmp_path / "out/report.html").read_text()
    with pytest.raises(IngotError, match="no system here"):
        ingot.data_show(write(tmp_path / "b.jsonl", system), model=other)


def test_what_the_template_leaves_out_is_said(tok: Path, tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    other = tmp_path / "tok"
    other.mkdir()
    for file in tok.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    source = (tok / "chat_template.jinja").read_text()
    dated = "{{ strftime_now('%d') }}" + source.replace("for m in messages", "for m in messages if m.role != 'system'")
    (other / "chat_template.jinja").write_text(dated)
    system = {"messages": [{"role": "system", "content": "be brief"}, USER, {**ANSWER, "reasoning_content": "thought"}]}
    ingot.data_show(write(tmp_path / "a.jsonl", CHATS[0], system), model=other)
    assert "leaves out the system message in 1 conversations (2)" in heard.text
    assert "leaves out the reasoning before the last answer in 1 conversations (2)" in heard.text
    assert "today's date" in heard.text


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"rows": 0, "show_mask": True}, "show-mask-rows"),
        ({"keep": "a.txt"}, "keep-type"),
        ({"length": 8, "keep": "b.jsonl"}, "keep-nothing"),
        ({"data": "gone.jsonl"}, "no-such-data"),
        ({"model": "gone"}, "no-such-file"),
        ({"rows": -1}, "bad-option"),
    ],
)
def test_what_would_do_nothing_is_refused(options: Any, code: str, tok: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", CHATS[0])
    paths = {name: tmp_path / value for name, value in options.items() if isinstance(value, str)}
    with pytest.raises(IngotError) as caught:
        ingot.data_show(**{"data": data, "model": tok, **options, **paths})
    assert caught.value.code == code


def test_the_window_of_a_model_is_its_configs(tok: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in tok.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    data = write(tmp_path / "a.jsonl", CHATS[0], CHATS[5])
    assert ingot.data_show(data, model=model).numbers["window"] is None
    (model / "config.json").write_text(json.dumps({"n_positions": 64}))
    found = ingot.data_show(data, model=model).numbers
    assert (found["window"], found["longer_than_window"]) == (64, 1)
    assert ingot.data_show(data, model=model, length=300).numbers["longer_than_window"] == 0


@pytest.mark.parametrize("sizes", [[7], [1, 1000000], list(range(3, 90)), [-35, -1, 0, 1, 17], [0, 5, 5, 16]])
def test_bins_hold_every_size_once(sizes: list[int]) -> None:
    found = bins(sizes)
    assert len(found) <= MOST_BINS
    assert [count for _, _, count in found] == [sum(low <= size <= high for size in sizes) for low, high, _ in found]
    assert sum(count for _, _, count in found) == len(sizes)
    assert found[0][2] > 0
    assert found[-1][2] > 0
    assert len({high - low for low, high, _ in found}) == 1
    assert all(one[1] + 1 == other[0] for one, other in pairwise(found))


def test_names_of_bins() -> None:
    assert (bin_name(3, 3), bin_name(-200, -1), bin_name(1000, 1999)) == ("3", "−200 – −1", "1,000 – 1,999")


def test_a_single_pair_has_no_interval(tok: Path, tmp_path: Path) -> None:
    found = ingot.data_show(write(tmp_path / "a.jsonl", PAIRS[0]), model=tok, out=tmp_path / "out").numbers
    assert found["mean_difference_tokens"] > 0


def test_bias_counts_equal_answers_apart() -> None:
    from ingot.data.bias import length_bias

    def side(targets: int) -> Rendered:
        return Rendered("", [0] * (targets + 1), [False] + [True] * targets)

    found = length_bias([RenderedPair(side(a), side(b), 1, 1) for a, b in ((3, 3), (4, 1), (1, 2))])
    assert (found.longer, found.shorter, found.equal) == (1, 1, 1)
    assert found.longer_share == 1 / 3


@pytest.mark.parametrize(
    ("name", "kind", "count", "bad"),
    [
        ("llamafactory/glaive_toolcall_en_demo.json", "chats", 109, 191),
        ("llamafactory/dpo_zh_demo.json", "pairs", 300, 0),
        ("llamafactory/kto_en_demo.json", "labelled", 300, 0),
        ("hh-rlhf/harmless-base-test_first500.jsonl", "pairs", 499, 1),
    ],
)
@pytest.mark.slow
def test_real_data_is_shown(
    name: str, kind: str, count: int, bad: int, real_data: Path, tok: Path, tmp_path: Path
) -> None:
    found = ingot.data_show(real_data / "03_instruct" / name, model=tok, out=tmp_path / "out").numbers
    assert (found["kind"], found[kind]) == (kind, count)
    assert found["bad_records"] == bad
