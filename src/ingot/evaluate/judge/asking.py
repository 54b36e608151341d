"""What a judge is asked and what its reply means. No system is named; answers are A and B.

Every pair is asked in both orders (or in one, drawn at random), as one user turn that a reply of one word answers. A
reply that is no verdict is kept word for word and counted; it is never taken for a tie.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingot.evaluate.judge.options import Language, Orders
from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.flags import HAN
from ingot.evaluate.people.rubric import Rubric
from ingot.evaluate.task import Row

VERDICTS = {"A": "left", "B": "right", "tie": "tie"}
"""What a judge may say, and the side that it means."""
ASKED = {
    "en": """You compare two answers to the same task. {question}
Do not prefer an answer for its length, its style or the order in which it stands. If both are equally good, say tie.

[Task]
{prompt}
[End of task]

[Answer A]
{left}
[End of answer A]

[Answer B]
{right}
[End of answer B]

{question} Reply with one word: A, B or tie.""",
    "zh": """請比較同一個題目的兩個回答。{question}
不要因為長度、文風或排列順序而偏好其中一個。如果一樣好，請說 tie。

【題目】
{prompt}
【題目結束】

【回答 A】
{left}
【回答 A 結束】

【回答 B】
{right}
【回答 B 結束】

{question}請只回覆一個詞：A、B 或 tie。""",
}
MOSTLY = 0.2
"""From this share of Chinese characters on, a prompt is asked about in Chinese."""
WORDS = re.compile(r"(?<![A-Za-z])(?:A|B|tie)(?![A-Za-z])")
ALONE = re.compile(r"\W*(?:(?:answer|回答)\s*)?(A|B|tie|平手)\W*", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """One pair in one order."""

    item: str
    left: str
    right: str
    text: str


@dataclass(frozen=True)
class Reply:
    """What a judge said, None where it could not be asked, and why not."""

    text: str | None
    problem: str = ""


Judge = Callable[[Sequence[str]], list[Reply]]
"""Texts of user turns to replies, in the same order."""


def questions_of(
    items: Sequence[Item], rubric: Rubric, orders: Orders, language: Language, seed: int
) -> list[Question]:
    """All questions, both orders of a pair together."""
    found = []
    for item in items:
        spoken = language if language != "auto" else _language(item.prompt)
        for first, second in itertools.combinations(sorted(item.answers), 2):
            sides = [(first, second), (second, first)]
            if orders == "one":
                sides = [random.Random(f"{seed}\0{item.id}\0{first}\0{second}").choice(sides)]
            for left, right in sides:
                asked = ASKED[spoken].format(
                    question=rubric.question.of(spoken), prompt=item.prompt, left=item.answers[left],
                    right=item.answers[right],
                )  # fmt: skip
                found.append(Question(item.id, left, right, asked))
    return found


def ask(questions: Sequence[Question], judge: Judge) -> list[Row]:
    """One row a question: what was said, and what it means."""
    replies = judge([question.text for question in questions])
    return [_row(question, reply) for question, reply in zip(questions, replies, strict=True)]


def _row(question: Question, reply: Reply) -> Row:
    verdict = None if reply.text is None else read_verdict(reply.text)
    own = {"item": question.item, "left": question.left, "right": question.right}
    return own | {"reply": reply.text, "verdict": verdict, "problem": reply.problem}


def read_verdict(reply: str) -> str | None:
    """left, right or tie; None where a reply does not say one of them clearly."""
    text = reply.strip()
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["verdict"])
        except (ValueError, KeyError, TypeError):
            return None
    alone = ALONE.fullmatch(text)
    word = alone[1] if alone else _only_word(text)
    if word is None:
        return None
    return VERDICTS.get(word.upper() if len(word) == 1 else "tie")


def _only_word(text: str) -> str | None:
    """The verdict in the last line of a longer reply, where it names exactly one."""
    found = set(WORDS.findall(text.rstrip().rpartition("\n")[2]))
    return found.pop() if len(found) == 1 else None


def _language(prompt: str) -> str:
    return "zh" if len(HAN.findall(prompt)) > MOSTLY * len(prompt) else "en"
