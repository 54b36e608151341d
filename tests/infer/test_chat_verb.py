"""The verb chat through its pipe, and the conversation that always fits the window."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from ingot import IngotError
from ingot.adapt.load import LanguageModel
from ingot.cli import main
from ingot.core.console import visible
from ingot.infer.conversation import Conversation
from ingot.infer.engine import generate
from ingot.infer.sampling import Sampling
from ingot.text.chat import render

Tiny = Callable[..., LanguageModel]


def ask(model: LanguageModel, monkeypatch: pytest.MonkeyPatch, typed: str, *flags: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    return main(["chat", str(model.model_dir.path), "--temperature", "0", "--max-tokens", "6", *flags])


def expected(model: LanguageModel, messages: list[dict[str, str]]) -> str:
    ids = render(messages, model.tokenizer, add_generation_prompt=True).ids
    return generate(model, [ids], Sampling(temperature=0, max_tokens=6))[0].text


def test_a_scripted_conversation_keeps_its_history(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny()
    assert ask(model, monkeypatch, "hello\n\n天空\n/exit\nnever asked\n") == 0
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[-1])["turns"] == 2
    first = expected(model, [{"role": "user", "content": "hello"}])
    history = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": first}]
    second = expected(model, [*history, {"role": "user", "content": "天空"}])
    assert out.index(visible(first)) < out.index(visible(second))


def test_system_and_reset_begin_anew(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from ingot.infer.chat import chat

    monkeypatch.setattr(sys, "stdin", io.StringIO("a\n/system be brief\nb\n/reset\nc\n/system\nd\n"))
    talk = chat(str(tiny().model_dir.path), temperature=0.0, max_tokens=4, system="first")
    prompts = [answer.prompt_ids for answer in talk.answers]
    systems = ["first", "be brief", "be brief", None]
    for question, system, ids in zip("abcd", systems, prompts, strict=True):
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": question})
        assert ids == render(messages, tiny().tokenizer, add_generation_prompt=True).ids


def test_a_seeded_chat_repeats_as_a_whole(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from ingot.infer.chat import chat

    runs = []
    for _ in range(2):
        monkeypatch.setattr(sys, "stdin", io.StringIO("a\na\n"))
        runs.append(chat(str(tiny().model_dir.path), seed=5, max_tokens=8).answers)
    assert [answer.tokens for answer in runs[0]] == [answer.tokens for answer in runs[1]]
    assert [answer.seed for answer in runs[0]] == [5, 6]


def test_oldest_turns_are_dropped_when_the_window_is_full(tiny: Tiny) -> None:
    model = tiny()
    talk = Conversation(model, system="s")
    dropped = []
    for number in range(12):
        prompt, gone = talk.ask(f"question {number}", wanted=16)
        assert len(prompt.ids) + 16 <= model.max_length
        dropped.append(gone)
        talk.answer("an answer")
    assert dropped[0] == 0
    assert sum(dropped) == 12 - len(talk.turns) // 2 > 0
    assert talk.turns[-2]["content"] == "question 11"
    first = {"role": "system", "content": "s"}
    messages = [first, *talk.turns[:-1]]
    assert prompt.ids == render(messages, model.tokenizer, add_generation_prompt=True).ids
    longer = [first, {"role": "user", "content": f"question {11 - len(talk.turns) // 2}"},
              {"role": "assistant", "content": "an answer"}, *talk.turns[:-1]]  # fmt: skip
    assert len(render(longer, model.tokenizer, add_generation_prompt=True).ids) + 16 > model.max_length


def test_a_question_that_cannot_fit_is_refused_and_forgotten(tiny: Tiny) -> None:
    talk = Conversation(tiny())
    talk.ask("hello", 4)
    talk.answer("hi")
    with pytest.raises(IngotError) as error:
        talk.ask("天" * 200, 4)
    assert error.value.code == "question-too-long"
    assert [turn["content"] for turn in talk.turns] == ["hello", "hi"]


@pytest.mark.parametrize(
    ("typed", "code"),
    [("/rset\n", "unknown-command"), ("天" * 200 + "\n", "question-too-long"), ("\udcff\n", "chat-not-utf8")],
)  # fmt: skip
def test_mistakes_in_a_pipe_end_with_one_sentence(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, code: str
) -> None:
    assert ask(tiny(), monkeypatch, typed) == 1
    assert f"[{code}]" in capsys.readouterr().err


def test_a_model_without_a_template_is_refused(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> None:
    import shutil

    import ingot

    path = tmp_path_factory.mktemp("plain") / "m"
    shutil.copytree(tiny().model_dir.path, path)
    (path / "chat_template.jinja").unlink()
    for call in (lambda: ingot.chat(str(path)), lambda: ingot.generate(str(path), prompt="a", chat=True)):
        with pytest.raises(IngotError) as error:
            call()
        assert error.value.code == "no-chat-template"


def test_an_end_of_turn_that_does_not_end_is_told(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(tiny(), monkeypatch, "") == 0
    assert "<|im_end|> (id 3)" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_stops_the_answer_and_ctrl_d_the_program(tiny: Tiny) -> None:
    """A person at a terminal: a long answer is interrupted, help is asked for, the input ends."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ingot.cli", "chat", str(tiny(length=100_000).model_dir.path), "--max-tokens",
               "none", "--rare.ignore-eos"]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "dumb"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        try:
            screen = Screen(ours)
            screen.wait(b"Ctrl-D ends.\r\n> ")
            os.write(ours, b"hello\n")
            screen.wait(b"hello\r\n")
            while len(screen.unread) < 100:
                screen.more()
            process.send_signal(signal.SIGINT)
            screen.wait(b"(stopped after ")
            screen.wait(b"> ")
            os.write(ours, b"/help\n")
            screen.wait(b"/system TEXT")
            screen.wait(b"> ")
            os.write(ours, b"\x04")
            screen.wait(b'{"turns": 1')
            assert process.wait(20) == 0
        finally:
            process.kill()
            os.close(ours)


class Screen:
    """What a terminal shows, read up to what is waited for."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.unread = b""

    def more(self) -> None:
        ready, _, _ = select.select([self.descriptor], [], [], 30)
        assert ready, self.unread
        try:
            self.unread += os.read(self.descriptor, 4096)
        except OSError:
            raise AssertionError(self.unread) from None

    def wait(self, wanted: bytes) -> None:
        while wanted not in self.unread:
            self.more()
        self.unread = self.unread.partition(wanted)[2]
