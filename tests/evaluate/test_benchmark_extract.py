"""Answers found in what was written, in any writing system; and GSM8K's as lm-eval finds them."""

from __future__ import annotations

import pytest

from ingot.evaluate.benchmarks.extract import INVALID, chinese_number, letter, number, regex
from ingot.evaluate.benchmarks.results import matches
from ingot.evaluate.benchmarks.spec import open_spec


@pytest.mark.parametrize(
    "reply",
    [
        "A", "a", "Ａ", "（Ａ）", "(A)", "「A」", "『Ａ』", "選Ａ", "選A。", "答案是A", "答案：Ａ", "正確答案為（A）",
        "A. 氣體", "Ａ、因為水會蒸發", "The answer is A.", "The correct answer is (A).", "Answer: A", "應選（Ａ）",
        "我選擇 A", "故選A", "**A**", "答案應為選項Ａ", "B 不對，C 也不對，所以答案是 A",
    ],
)  # fmt: skip
def test_the_letter_that_is_named(reply: str) -> None:
    assert letter(reply) == "A"


@pytest.mark.parametrize(
    "reply", ["", "不知道", "A cat sat on the mat", "可能是 B 或 C", "（A）與（B）都對", "K", "ABBA"]
)
def test_no_letter(reply: str) -> None:
    assert letter(reply) == INVALID


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("12", "12"), ("１２", "12"), ("十二", "12"), ("答案是十二。", "12"), ("12.0", "12"), ("1,234", "1234"),
        ("共有 3 + 4 = 7 個", "7"), ("一百零五", "105"), ("兩萬三", "23000"), ("二〇二四年", "2024"), ("-5", "-5"),
        ("０．５", "0.5"), ("二十", "20"), ("三億五千萬", "350000000"), ("一百五", "150"), ("沒有數字", INVALID),
    ],
)  # fmt: skip
def test_the_last_number(reply: str, found: str) -> None:
    assert number(reply) == found


@pytest.mark.parametrize("numeral", ["萬", "百", "零百"])
def test_what_is_no_numeral(numeral: str) -> None:
    assert chinese_number(numeral) is None


@pytest.mark.parametrize(
    ("reply", "strict", "flexible"),
    [
        (" 16 - 3 - 4 = 9\n#### 18", 1, 1),
        ("She has $18.", 0, 1),
        ("#### 1,018", 0, 0),
        ("It is 18 in all, not 20", 0, 0),
        ("#### 18.", 1, 1),
        ("nothing", 0, 0),
    ],
)
def test_gsm8k_as_lm_eval_scores_it(reply: str, strict: float, flexible: float) -> None:
    """By hand; 126 completions are compared with lm-eval's own filters in test_benchmark_written.py."""
    answers = open_spec("gsm8k").answers
    target = "Janet sells 9 eggs.\n#### 18"
    assert matches(answers["strict-match"], reply, target) == strict
    assert matches(answers["flexible-extract"], reply, target) == flexible


def test_bbh_takes_what_follows_the_answer_is() -> None:
    answer = open_spec("bbh").answers["get-answer"]
    assert matches(answer, "not True = False. So the answer is False.", "False") == 1
    assert matches(answer, "So the answer is (B).", "(B)") == 1
    assert matches(answer, "False", "False") == 0


def test_a_pattern_with_groups_gives_the_first_that_matched() -> None:
    assert regex("a1 b2", r"(\d)x|(\d)", -1) == "2"
    assert regex("none", r"(\d)") == INVALID
