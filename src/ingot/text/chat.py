"""The one renderer of conversations: messages to text, ids and the mask of what the assistant must produce.

Training, evaluation and serving all come through here, and nothing is tokenised again afterwards. Special-token strings
that a user writes are hidden from the template behind unguessable digits while it runs, so in the result every special
token is the template's own and the user's stay text. The text is byte for byte the template's; a template that treats
such a string in a message differently from other text is refused, since then neither reading would be right.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ingot.core.errors import fail
from ingot.core.language import text
from ingot.text.mask import REASONING, refuse_unwritten_calls, target_spans
from ingot.text.template import frozen_clock, run_template, template_variables
from ingot.text.tokenizer import Tokenizer

ROLES = ("system", "developer", "user", "assistant", "tool")

DEFAULT_CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else %}
{{- message['content'] + '<|im_end|>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""ChatML, with the assistant's part marked: `<|im_start|>role`, newline, content, `<|im_end|>`, newline."""


@dataclass(frozen=True)
class Rendered:
    """A conversation ready for a model. `mask[i]` says that the assistant must produce `ids[i]`.

    `stretches` divides the text: where each stretch ends, whether it is one special token of the template's, and
    whether it is learnt.
    """

    text: str
    ids: list[int]
    mask: list[bool]
    stretches: tuple[tuple[int, bool, bool], ...] = ()


def render(
    messages: list[dict[str, Any]],
    tokenizer: Tokenizer,
    *,
    add_generation_prompt: bool = False,
    tools: list[dict[str, Any]] | None = None,
    learn: Collection[int] | None = None,
    answer: str = "",
) -> Rendered:
    """Render a conversation with the tokenizer's chat template.

    `text` equals transformers' `apply_chat_template`, `ids` its tokenisation, except that special-token strings inside
    messages and tools stay text. The mask covers each assistant turn: what follows the generation prompt up to and with
    the end-of-turn token (or, where the template has generation tags, exactly what they enclose); with `learn` only
    the messages of these numbers, from 0. What ends with a generation prompt is to be answered, not learnt: no mask;
    `answer`: what the answer begins with, written behind that prompt.

    Raises `no-chat-template`, `bad-template`, `template-refused`, `template-limit`, `bad-message` (number of the
    message and what is wrong), `template-ignores-tools`, `template-reads-specials`, and where there is a mask
    `template-ignores-calls` and `mask-not-derivable`.
    """
    source = template_source(tokenizer, tools)
    check_messages(messages)
    shield = Shield(tokenizer)
    plain = [_plain(message) for message in messages]
    shown, shown_tools = [shield.hide_message(message) for message in plain], shield.hide(tools)

    base = {**tokenizer.special_tokens, "documents": None, "strftime_now": frozen_clock()}

    def run(some: list[dict[str, Any]], prompt: bool) -> str:
        variables = {"messages": some, "tools": shown_tools, "add_generation_prompt": prompt}
        return run_template(source, {**base, "generation_marks": shield.marks, **variables})

    found = run(shown, add_generation_prompt) + shield.hide(answer)
    if shield.used:
        variables = {"messages": plain, "tools": tools, "add_generation_prompt": add_generation_prompt}
        expected = run_template(source, {**base, "generation_marks": ("", ""), **variables}) + answer
        if shield.reveal(found) != expected:
            raise fail("template-reads-specials", found=", ".join(sorted(set(shield.used))))
    if add_generation_prompt:
        return shield.assemble(found, [])
    refuse_unwritten_calls(shown, run, shield)
    wanted = set(range(len(messages)) if learn is None else learn)
    return shield.assemble(found, target_spans(source, found, shown, run, shield, wanted))


def end_of_turn(tokenizer: Tokenizer) -> int | None:
    """The special token that ends an assistant turn as the chat template writes it, None where there is none."""
    rendered = render([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], tokenizer)
    last = next((id for id, target in zip(reversed(rendered.ids), reversed(rendered.mask), strict=True) if target), -1)
    return last if last in tokenizer.special_ids else None


def template_source(tokenizer: Tokenizer, tools: list[dict[str, Any]] | None) -> str:
    """The template to use: the tokenizer's `tool_use` one when there are tools and it has one, else its default."""
    name = "tool_use" if tools is not None and "tool_use" in tokenizer.chat_templates else "default"
    if name not in tokenizer.chat_templates:
        raise fail("no-chat-template", path=tokenizer.path)
    source = tokenizer.chat_templates[name]
    if tools is not None and "tools" not in template_variables(source):
        raise fail("template-ignores-tools", path=tokenizer.path)
    return source


def check_messages(messages: list[dict[str, Any]]) -> None:
    """Refuse what no template can mean: no messages, unknown roles, missing content, a system or tool message where
    there can be none. Raises `no-messages` or `bad-message`, which count messages from 1."""
    if not messages:
        raise fail("no-messages")
    for number, message in enumerate(messages, start=1):
        before = messages[number - 2].get("role") if number > 1 else None
        reason = _wrong(message, before)
        if reason:
            raise fail("bad-message", number=number, reason=reason)


def _wrong(message: object, before: object) -> str:
    """What is wrong with one message, "" when nothing is."""
    if not isinstance(message, dict):
        return text("message-no-object", found=f"{message!r:.60}")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        return text("message-role", found=repr(role), known=", ".join(ROLES))
    if role in {"system", "developer"} and before not in {None, "system", "developer"}:
        return text("message-system-late", role=role, before=before)
    if role == "tool" and before not in {"assistant", "tool"}:
        return text("message-tool-early", before=before or "-")
    if content is None and not (role == "assistant" and message.get("tool_calls")):
        return text("message-no-content")
    if not (content is None or isinstance(content, str) or _is_parts(content)):
        return text("message-content", found=f"{content!r:.60}")
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(map(_is_call, calls))):
        return text("message-calls", found=f"{calls!r:.60}")
    return ""


def _is_call(call: object) -> bool:
    """{"function": {"name": ...}}, or the same without the outer object."""
    inner = call.get("function", call) if isinstance(call, dict) else None
    return isinstance(inner, dict) and isinstance(inner.get("name"), str)


def _is_parts(content: object) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    )


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message as transformers shows it to a template: no keys without a value, and reasoning under each of the names
    that templates read."""
    message = {key: value for key, value in message.items() if value is not None}
    reasoning = next((message[name] for name in REASONING if name in message), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


class Shield:
    """Hides special-token strings, whole or cut off at either end of a text, behind digits; and takes them out again.

    A cut-off one ("<|im_" at the end of one text, "start|>" at the beginning of the next) could grow together in the
    template. Digits, because filters such as trim, upper or tojson leave them alone.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.nonce = tokenizer.nonce
        self.marks = (f"{self.nonce}8888", f"{self.nonce}9999")
        self.used: list[str] = []
        self._hidden = re.compile(rf"{self.nonce}(\d{{6}})7")
        self._mark = re.compile(f"{self.marks[0]}|{self.marks[1]}")

    def digits(self, number: int) -> str:
        """Digits that stand for something else in a rendering."""
        return f"{self.nonce}{number:06}5"

    def hide_message(self, message: dict[str, Any]) -> dict[str, Any]:
        """`hide` below a message's own keys; its role is one of the known words."""
        return {key: value if key == "role" else self.hide(value) for key, value in message.items()}

    def hide(self, value: Any) -> Any:
        """The value with every special-token string below it hidden, in the keys of objects too."""
        if isinstance(value, str):
            return self._tokenizer.fragment_pattern.sub(self._stand_in, value)
        if isinstance(value, dict):
            return {self._hide_key(key): self.hide(item) for key, item in value.items()}
        return [self.hide(item) for item in value] if isinstance(value, list | tuple) else value

    def _hide_key(self, key: Any) -> Any:
        """A plain word is what a template looks for ("name", "arguments") and no special token."""
        return key if not isinstance(key, str) or re.fullmatch(r"\w+", key) else self.hide(key)

    def _stand_in(self, fragment: re.Match[str]) -> str:
        self.used.append(fragment[0])
        return f"{self.nonce}{len(self.used) - 1:06}7"

    def reveal(self, text: str) -> str:
        """The text as the template would have written it."""
        return self._hidden.sub(lambda match: self.used[int(match[1])], self._mark.sub("", text))

    def specials(self, text: str) -> list[tuple[int, int]]:
        """Where in a rendered text (still hidden) the template's own special tokens stand."""
        spans, at = [], 0
        for piece in self._tokenizer.split_specials(text):
            size = len(piece) if isinstance(piece, str) else len(self._tokenizer.added_tokens[piece].content)
            if isinstance(piece, int):
                spans.append((at, at + size))
            at += size
        return spans

    def assemble(self, text: str, spans: list[tuple[int, int]]) -> Rendered:
        """Encode a rendered text; `spans` are the targets, in characters of the hidden text."""
        borders = sorted({0, len(text), *(edge for span in spans for edge in span)})
        pieces: list[str | int] = []
        stretches: list[tuple[int, bool, bool]] = []
        moved: dict[int, int] = {0: 0}
        size = 0
        for begin, end in pairwise(borders):
            inside = any(first <= begin < last for first, last in spans)
            for piece in self._tokenizer.split_specials(text[begin:end]):
                pieces.append(self.reveal(piece) if isinstance(piece, str) else piece)
                written = len(self._text(pieces[-1]))
                size += written
                stretches += [(size, isinstance(piece, int), inside)] if written else []
            moved[end] = size
        found = self._tokenizer.encode_pieces(pieces)
        mask = _mask(found.begins, found.ends, [(moved[begin], moved[end]) for begin, end in spans])
        return Rendered("".join(map(self._text, pieces)), found.ids, mask, tuple(stretches))

    def _text(self, piece: str | int) -> str:
        return piece if isinstance(piece, str) else str(self._tokenizer.added_tokens[piece].content)


def _mask(begins: list[int], ends: list[int], spans: list[tuple[int, int]]) -> list[bool]:
    """Which tokens overlap a span; a token of no characters belongs where it stands."""
    mask, at = [], 0
    for begin, end in zip(begins, ends, strict=True):
        while at < len(spans) and spans[at][1] <= begin:
            at += 1
        inside = at < len(spans) and (spans[at][0] < end if end > begin else spans[at][0] <= begin)
        mask.append(inside)
    return mask
