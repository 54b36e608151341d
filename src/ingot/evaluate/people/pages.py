"""The pages: plain HTML made on the server, every text escaped. A page never names a system, an item or a side.

What tells one showing from another is a random ticket; answers stand in no element whose class, id or order depends on
who wrote them. Without a script everything works by its buttons; `page.js` adds the keys that are shown on them.
"""

from __future__ import annotations

from ingot.core.language import sentence
from ingot.core.page import escape
from ingot.evaluate.people.rubric import Criterion, Rubric
from ingot.evaluate.people.study import Shown

LETTERS = "AB"
KEYS = "1234567890"
LINES = "\n\t"
"""Control characters that texts keep."""
LANGUAGES = {"en": ("en", "English"), "zh": ("zh-Hant-TW", "中文")}
"""What each language is called in HTML, and in itself."""


class Pages:
    """Pages in one language for one annotator's link (`base`, such as "/a/TOKEN")."""

    def __init__(self, language: str, base: str, rubric: Rubric) -> None:
        self.language, self.base, self.rubric = language, base, rubric

    def item(self, shown: Shown, can_undo: bool, told: str = "", note: str = "") -> str:
        """What is to be judged now; `told`: what the last vote was rejected for, `note`: what had been written."""
        judged = self._pair(shown) if len(shown.texts) == 2 else self._single(shown)
        return self._frame(
            f"""{self._told(told)}
<section class="prompt"><h2>{self._words("people-page-prompt")}</h2>{_text(shown.prompt)}</section>
<form id="vote" method="post" action="{self.base}/vote" autocomplete="off">
<input type="hidden" name="ticket" value="{escape(shown.ticket)}">
{judged}
<details class="note"{" open" if note else ""}><summary>{self._words("people-page-note")} <kbd>N</kbd></summary>
<textarea name="note" rows="3" maxlength="2000" aria-label="{self._words("people-page-note")}">
{escape(note, keep=LINES)}</textarea></details>
</form>
{self._bar(len(shown.texts) == 2, can_undo)}""",
            shown,
        )

    def over(self, can_undo: bool, closed: bool) -> str:
        """Nothing is left to judge, or the study was closed."""
        code = "people-page-closed" if closed else "people-page-done"
        undo = self._undo() if can_undo and not closed else ""
        return self._frame(f'<section class="over"><p>{self._words(code)}</p>{undo}</section>')

    def stranger(self, status: str = "people-page-stranger") -> str:
        """For who comes without a link of ours."""
        return self._frame(f'<section class="over"><p>{self._words(status)}</p></section>')

    def _frame(self, body: str, shown: Shown | None = None) -> str:
        count = bar = ""
        if shown:
            count = self._words("people-page-count", number=shown.number, left=shown.left)
            bar = f'<progress max="{shown.number + shown.left}" value="{shown.number - 1}">{count}</progress>'
        return f"""<!doctype html>
<html lang="{LANGUAGES[self.language][0]}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{self._words("people-page-title")}</title>
<link rel="stylesheet" href="/page.css">
<script src="/page.js" defer></script>
</head>
<body>
<header><span class="count">{count}</span>{self._switch()}{bar}</header>
<main>
{body}
</main>
</body>
</html>
"""

    def _switch(self) -> str:
        """To the other language; not on pages of strangers, which have no link to come back to."""
        other = "en" if self.language == "zh" else "zh"
        if not self.base:
            return ""
        lang, name = LANGUAGES[other]
        return f'<a class="switch" href="{self.base}/language/{other}" lang="{lang}" hreflang="{lang}">{name}</a>'

    def _told(self, told: str) -> str:
        return f'<p class="told" role="alert">{escape(told)}</p>' if told else ""

    def _pair(self, shown: Shown) -> str:
        answers = "".join(
            f"<article><h2>{self._words('people-page-answer', letter=letter)}</h2>{_text(text)}</article>"
            for letter, text in zip(LETTERS, shown.texts, strict=True)
        )
        return f'<h1>{escape(self.rubric.question.of(self.language))}</h1><div class="answers">{answers}</div>'

    def _single(self, shown: Shown) -> str:
        answer = f"<article><h2>{self._words('people-page-only')}</h2>{_text(shown.texts[0])}</article>"
        return f'<div class="answers one">{answer}</div>' + "".join(map(self._criterion, self.rubric.criteria))

    def _criterion(self, criterion: Criterion) -> str:
        low, high = criterion.ends.of(self.language) if criterion.ends else ("", "")
        choices = "".join(
            f'<label><input type="radio" name="score.{criterion.name}" value="{value}" data-key="{key}" required>'
            f"<span>{value}{f' <kbd>{key}</kbd>' if str(value) != key else ''}</span></label>"
            for value, key in zip(criterion.values, KEYS, strict=False)
        )
        ends = f'<div class="ends"><span>{escape(low)}</span><span>{escape(high)}</span></div>' if low or high else ""
        question = escape(criterion.question.of(self.language))
        return f'<fieldset><legend>{question}</legend><div class="scale">{choices}</div>{ends}</fieldset>'

    def _bar(self, is_pair: bool, can_undo: bool) -> str:
        """The buttons, always in sight. They belong to the form by its id."""
        voting = (
            [("left", "people-page-left", "A"), ("tie", "people-page-tie", "T"), ("right", "people-page-right", "B")]
            if is_pair
            else [("rated", "people-page-rated", "Enter")]
        )
        main = "".join(self._button(*each, kind="vote") for each in voting)
        skip = self._button("skip", "people-page-skip", "S", kind="less")
        rest = f'<span class="rest">{skip}{self._undo() if can_undo else ""}</span>'
        return f'<nav class="bar" aria-label="{self._words("people-page-title")}">{main}{rest}</nav>'

    def _button(self, choice: str, code: str, key: str, kind: str) -> str:
        skip = " formnovalidate" if choice == "skip" else ""
        return (
            f'<button form="vote" name="choice" value="{choice}" class="{kind}" data-key="{key}"{skip}>'
            f"{self._words(code)} <kbd>{key}</kbd></button>"
        )

    def _undo(self) -> str:
        return (
            f'<form method="post" action="{self.base}/undo"><button class="less" data-key="U">'
            f"{self._words('people-page-undo')} <kbd>U</kbd></button></form>"
        )

    def _words(self, code: str, **details: object) -> str:
        return escape(sentence(code, self.language, **details))


def _text(text: str) -> str:
    """A text as it was written, with its lines."""
    return f'<div class="text" dir="auto">{escape(text, keep=LINES)}</div>'
