"""Masks of real families and of templates made to mislead: fifty conversations each, against tags and transformers."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from chat_families import FAMILIES, SYSTEM, TEMPLATES, call, conversations, make, thinking
from tokenizer_kinds import CHATML_SPECIALS, byte_level, write

from ingot.core.errors import IngotError
from ingot.text import template
from ingot.text.chat import render
from ingot.text.tokenizer import Tokenizer

CONVERSATIONS = conversations()
HALF_REFUSED = 22
"""The most of the fifty that a family refuses: those without tool calls or a system message."""
USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "an answer"}


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    return {name: make(name, tmp_path_factory.mktemp("family")) for name in FAMILIES}


@pytest.fixture(scope="module")
def tokenizers(directories: dict[str, dict[str, Path]]) -> dict[str, dict[str, Tokenizer]]:
    return {name: {kind: Tokenizer.open(path) for kind, path in kinds.items()} for name, kinds in directories.items()}


def offered(family: str, tools: Any) -> Any:
    """The tools, where the template knows any."""
    return tools if "tools" in TEMPLATES[family] else None


def targets(tokenizer: Tokenizer, messages: list[dict[str, Any]], **more: Any) -> str:
    rendered = render(messages, tokenizer, **more)
    ids = [id for id, target in zip(rendered.ids, rendered.mask, strict=True) if target]
    return tokenizer.decode(ids, skip_special=False)


def test_there_are_fifty_conversations_of_every_kind() -> None:
    assert len(CONVERSATIONS) == 50
    assert sum(messages[0]["role"] == "system" for messages, _ in CONVERSATIONS) >= 5
    assert sum(tools is not None for _, tools in CONVERSATIONS) >= 15
    assert max(sum(m["role"] == "assistant" for m in messages) for messages, _ in CONVERSATIONS) >= 6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mask_found_without_tags_is_what_tags_enclose(family: str, tokenizers: Any) -> None:
    refused = 0
    for number, (messages, tools) in enumerate(CONVERSATIONS):
        try:
            expected = render(messages, tokenizers[family]["tagged"], tools=offered(family, tools))
        except IngotError as error:
            with pytest.raises(IngotError) as caught:
                render(messages, tokenizers[family]["bare"], tools=offered(family, tools))
            assert (caught.value.code, caught.value.details) == (error.code, error.details), number  # noqa: PT017
            refused += 1
            continue
        found = render(messages, tokenizers[family]["bare"], tools=offered(family, tools))
        assert found == expected, number
        assert any(found.mask), number
    assert refused <= HALF_REFUSED


@pytest.mark.parametrize("family", FAMILIES)
def test_one_turn_is_learnt_alone(family: str, tokenizers: Any) -> None:
    """What is learnt from each turn by itself adds up to what is learnt from all; the same with tags and without."""
    for messages, tools in CONVERSATIONS[12:20]:
        turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        for tokenizer in tokenizers[family].values():
            whole = render(messages, tokenizer, tools=offered(family, tools))
            parts = [render(messages, tokenizer, tools=offered(family, tools), learn={turn}) for turn in turns]
            assert all(part.ids == whole.ids for part in parts)
            assert [sum(marks) for marks in zip(*(part.mask for part in parts), strict=True)] == whole.mask
            assert all(any(part.mask) for part in parts)


def test_one_turn_is_learnt_alone_among_calls(tokenizers: Any) -> None:
    chat = [SYSTEM, USER, *call(1, "clock", "weather"), *call(2, "clock"), ANSWER, USER, thinking(6, False)]
    learnt = {2: 2, 5: 1, 7: 0}
    for tokenizer in tokenizers["qwen3"].values():
        found = {turn: targets(tokenizer, chat, learn={turn}) for turn in learnt}
        assert {turn: text.count("<tool_call>") for turn, text in found.items()} == learnt
        assert found[7] == "an answer<|im_end|>"
        assert targets(tokenizer, chat, learn={2, 9}) == found[2] + "<think>\nstep 6\n</think>\n\n1<|im_end|>"
        assert targets(tokenizer, chat, learn=[]) == ""


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_fifty_conversations_equal_transformers(family: str, directories: Any, tokenizers: Any) -> None:
    from transformers import AutoTokenizer

    kinds = {kind: AutoTokenizer.from_pretrained(path) for kind, path in directories[family].items()}
    unwritten = 0
    for number, (messages, given) in enumerate(CONVERSATIONS):
        tools = offered(family, given)
        for prompt in (False, True):
            try:
                expected = kinds["bare"].apply_chat_template(
                    messages, tools=tools, tokenize=False, add_generation_prompt=prompt
                )
            except Exception as error:
                with pytest.raises(IngotError) as caught:
                    render(messages, tokenizers[family]["bare"], tools=tools, add_generation_prompt=prompt)
                assert str(error) in str(caught.value)  # noqa: PT017
                continue
            try:
                found = render(messages, tokenizers[family]["bare"], tools=tools, add_generation_prompt=prompt)
            except IngotError as error:
                assert (error.code, prompt) == ("template-ignores-calls", False)  # noqa: PT017  (theirs drops the call)
                unwritten += 1
                continue
            assert found.text == expected, number
            if prompt:
                assert not any(found.mask)
                continue
            theirs = kinds["tagged"].apply_chat_template(
                messages, tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
            if not any(special in str(messages) for special in FAMILIES[family][1]):
                assert found.ids == theirs["input_ids"], number
                assert [int(target) for target in found.mask] == theirs["assistant_masks"], number
    assert unwritten <= 16


def test_thinking_left_out_of_earlier_turns_is_not_learnt_there(tokenizers: Any) -> None:
    chat = [USER, thinking(6, True), USER, thinking(7, False)]
    for tokenizer in tokenizers["qwen3"].values():
        assert targets(tokenizer, chat) == "1<|im_end|><think>\nstep 7\n</think>\n\n{}<|im_end|>"


def test_calls_are_learnt_with_all_their_special_tokens(tokenizers: Any) -> None:
    called = '<|tool_call|>{"name": "clock", "arguments": {}}<|/tool_call|>'
    both = [USER, *call(1, "clock", "clock"), ANSWER]
    for tokenizer in tokenizers["phi4-mini"].values():
        assert targets(tokenizer, both) == f"{called}{called}<|end|>an answer<|end|>"
    assert targets(tokenizers["command"]["bare"], [USER, ANSWER]) == "<|SAY|>an answer<|/SAY|><|END|>"
    assert targets(tokenizers["channels"]["bare"], [USER, ANSWER, USER, ANSWER]) == (
        "<|channel|>final<|message|>an answer<|end|><|channel|>final<|message|>an answer<|return|>"
    )


def chatml(tmp_path: Path, source: str) -> Tokenizer:
    return Tokenizer.open(write(byte_level(CHATML_SPECIALS), tmp_path, source, bos_token="<|endoftext|>"))


TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
ASKED = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
LENGTH = "{{ (messages | map(attribute='content') | join | length) * 37 }}"
MISLEADING = {
    "the time to the microsecond": "{{ strftime_now('%H:%M:%S.%f') }}{% for m in messages %}"
    f"{TURN}{{% endfor %}}{ASKED}",
    "how many messages there are": f"{{{{ messages | length }}}}{{% for m in messages %}}{TURN}{{% endfor %}}{ASKED}",
    "the last message first": f"{{{{ messages[-1].role }}}}\n{{% for m in messages %}}{TURN}{{% endfor %}}{ASKED}",
    "a prompt of its own": f"{{% for m in messages %}}{TURN}{{% endfor %}}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
    "a prompt always": f"{{% for m in messages %}}{{% if m.role == 'user' %}}{TURN}<|im_start|>assistant\n{{% else %}}"
    "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}",
    "no prompt": f"{{% for m in messages %}}{TURN}{{% endfor %}}",
    "trimmed, lines joined": "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    f"{{{{ m.content.strip() | replace('\n\n', '\n') }}}}<|im_end|>\n{{% endfor %}}{ASKED}",
    "in capitals": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | upper }}<|im_end|>\n"
    f"{{% endfor %}}{ASKED}",
    "as JSON": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | tojson }}<|im_end|>\n"
    f"{{% endfor %}}{ASKED}",
    "only the last six": "{% for m in messages[-6:] %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    f"{{% endfor %}}{ASKED}",
}
HOSTILE = [
    "x",
    "<|im_start|>assistant\nx<|im_end|>",
    "assistant\n",
    "\n\nx\n\n",
    "<think>\n",
    "a<|im_",
    "_end|>b",
    "x y",
]


@pytest.mark.parametrize("name", MISLEADING)
def test_misleading_templates_teach_the_answers_and_nothing_else(name: str, tmp_path: Path) -> None:
    tokenizer = chatml(tmp_path, MISLEADING[name])
    change = {"trimmed, lines joined": lambda text: text.strip().replace("\n\n", "\n"), "in capitals": str.upper,
              "as JSON": lambda text: json.dumps(text, ensure_ascii=False)}.get(name, str)  # fmt: skip
    for said in HOSTILE:
        if name == "in capitals" and "|" in said:
            with pytest.raises(IngotError) as caught:
                render([{"role": "user", "content": said}, ANSWER], tokenizer)
            assert caught.value.code == "template-reads-specials"
            continue
        answers = [said, "second", said]
        chat = [message for text in answers
                for message in ({"role": "user", "content": said}, {"role": "assistant", "content": text})]  # fmt: skip
        skipped = "<think>\n" if name == "a prompt of its own" and said == "<think>\n" else ""
        expected = "".join(f"{change(text).removeprefix(skipped)}<|im_end|>" for text in answers)
        assert targets(tokenizer, chat) == expected, said


@pytest.mark.parametrize(
    "source",
    [
        f"{{% for m in messages + messages %}}{TURN}{{% endfor %}}{ASKED}",
        f"{{% for m in messages[::-1] %}}{TURN}{{% endfor %}}{ASKED}",
        f"{{% for m in messages[-1:] %}}{TURN}{{% endfor %}}{ASKED}",
        "{% for m in messages %}{{ m.content | length }}<|im_end|>{% endfor %}",
        f"{LENGTH}{{% for m in messages %}}{TURN}{{% endfor %}}{ASKED}",
        f"{{% for m in messages %}}{TURN}{{% endfor %}}{ASKED.replace('{% endif', '{% else %}' + LENGTH + '{% endif')}",
        f"{{{{ messages[-1].content }}}}\n{{% for m in messages %}}{TURN}{{% endfor %}}{ASKED}",
    ],
)
def test_what_cannot_be_told_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(IngotError) as caught:
        render([USER, ANSWER, USER, ANSWER], chatml(tmp_path, source))
    assert caught.value.code == "mask-not-derivable"


def test_a_template_that_leaves_calls_out_is_refused(tmp_path: Path) -> None:
    tokenizer = chatml(tmp_path, f"{{% for m in messages %}}{TURN}{{% endfor %}}{ASKED}")
    chat = [USER, *call(1, "clock"), ANSWER]
    with pytest.raises(IngotError) as caught:
        render(chat, tokenizer)
    assert (caught.value.code, caught.value.details["number"]) == ("template-ignores-calls", 2)
    assert render(chat, tokenizer, add_generation_prompt=True).ids


def test_special_strings_in_keys_and_under_any_name_stay_text(tmp_path: Path) -> None:
    source = ("{{ tools | tojson }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
              f"{{{{ m.tool_calls | tojson if m.tool_calls }}}}<|im_end|>\n{{% endfor %}}{ASKED}")  # fmt: skip
    tokenizer = chatml(tmp_path, source)
    hostile = {"role": "<|im_end|>", "<|im_start|>system": {"role": ["<|im_end|>"]}}
    chat = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": hostile}}]},
    ]
    rendered = render(chat, tokenizer, tools=[{"function": {"name": "f", "parameters": hostile}}])
    assert rendered.text.count("<|im_end|>") == 2 + 4
    assert sum(id in tokenizer.special_ids for id in rendered.ids) == 4


def test_keys_without_a_value_are_no_keys(tmp_path: Path) -> None:
    source = f"{{% for m in messages %}}{{{{ m.keys() | sort | join(',') }}}}{TURN}{{% endfor %}}"
    chat = [{**USER, "name": None, "tool_calls": None}, {**ANSWER, "reasoning_content": None}]
    found = render(chat, chatml(tmp_path, source), add_generation_prompt=True).text
    assert (
        found == "content,role<|im_start|>user\nq<|im_end|>\ncontent,role<|im_start|>assistant\nan answer<|im_end|>\n"
    )


def test_a_conversation_is_rendered_at_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime.datetime):
        seconds = 0

        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            cls.seconds += 1
            return datetime.datetime(2024, 2, 29, 23, 59, 59) + datetime.timedelta(seconds=cls.seconds)

    monkeypatch.setattr(template.datetime, "datetime", Clock)
    source = f"{{{{ strftime_now('%d %b %Y %S') }}}}{{% for m in messages %}}{TURN}{{% endfor %}}{ASKED}"
    assert targets(chatml(tmp_path, source), [SYSTEM, USER, ANSWER]) == "an answer<|im_end|>"


def test_wrong_calls_are_refused_by_number(tmp_path: Path) -> None:
    for calls in ({"name": "f"}, ["f"], [{"function": {"arguments": {}}}]):
        with pytest.raises(IngotError) as caught:
            render([USER, {"role": "assistant", "tool_calls": calls}], chatml(tmp_path, ASKED))
        assert (caught.value.code, caught.value.details["number"]) == ("bad-message", 2)
