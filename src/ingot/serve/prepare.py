"""From a checked request body to token ids and controls: guard, render, encode, count.

Runs outside the event loop (a long prompt takes a while to tokenise). The text the guard hands back is what the model
sees; nothing is tokenised twice, so a prompt given as token ids is checked by its text and can only pass or be refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ingot.core.errors import IngotError
from ingot.guard.guard import Guard
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt, Reader
from ingot.serve.errors import ApiError, refuse
from ingot.serve.schema import ChatBody, CompletionBody, SamplingBody
from ingot.text.tokenizer import Tokenizer

GUARD_HEADER = "x-ingot-guard"


@dataclass(frozen=True)
class Served:
    """The model behind the server: what a request is checked against."""

    name: str
    tokenizer: Tokenizer
    reader: Reader
    guard: Guard | None = None
    fingerprint: str | None = None
    created: int = 0


@dataclass(frozen=True)
class Given(Prompt):
    """One prompt, with the text to echo (completions only)."""

    text: str = ""


@dataclass
class Prepared:
    """What the engine is asked: n sequences for each prompt, and headers that tell what the guard did."""

    prompts: list[Given]
    sequences: list[tuple[Prompt, Sampling]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


def prepare(body: SamplingBody, served: Served) -> Prepared:
    """Everything that can be refused before the engine is asked. Raises ApiError."""
    if body.model != served.name:
        raise refuse("http-unknown-model", param="model", found=_short(body.model), known=served.name)
    _check_bias(body, served)
    checker = _Checker(served.guard)
    if isinstance(body, ChatBody):
        prompts, where = [_chat_prompt(body, served, checker)], "messages"
    else:
        assert isinstance(body, CompletionBody)
        prompts, where = [_text_prompt(prompt, served, checker) for prompt in body.prompt], "prompt"
    sequences = [sequence for prompt in prompts for sequence in _sequences(body, prompt, served, where)]
    return Prepared(prompts, sequences, checker.headers())


def _check_bias(body: SamplingBody, served: Served) -> None:
    for token in body.logit_bias or {}:
        if token >= served.reader.vocab_size:
            raise refuse("http-token-id", param="logit_bias", found=token, size=served.reader.vocab_size)


def _chat_prompt(body: ChatBody, served: Served, checker: _Checker) -> Given:
    messages = [{"role": turn.role, "content": checker.text(turn.content, "messages")} for turn in body.messages]
    try:
        prompt = served.reader.conversation(served.tokenizer, messages)
    except IngotError as error:
        raise refuse("http-bad-messages", param="messages", reason=str(error)) from None
    return Given(prompt.ids, prompt.prefix)


def _text_prompt(prompt: str | list[int], served: Served, checker: _Checker) -> Given:
    if isinstance(prompt, str):
        text = checker.text(prompt, "prompt")
        read = served.reader.text(served.tokenizer, text)
        return Given(read.ids, read.prefix, text)
    for token in prompt:
        if token >= served.reader.vocab_size:
            raise refuse("http-token-id", param="prompt", found=token, size=served.reader.vocab_size)
    text = served.tokenizer.decode(prompt)
    if checker.text(text, "prompt") != text:
        raise refuse("http-redacted-ids", param="prompt", kinds=", ".join(checker.redacted))
    return Given(prompt, len(prompt), text)


def _sequences(body: SamplingBody, prompt: Given, served: Served, where: str) -> Iterable[tuple[Prompt, Sampling]]:
    room = served.reader.room(prompt)
    wanted = body.limit or max(room, 1)
    if wanted > room or not prompt.ids:
        raise _no_room(prompt, served.reader, wanted, where)
    if (body.min_tokens or 0) > wanted:
        raise refuse("http-conflict", param="min_tokens", other="max_tokens")
    sampling = body.sampling(wanted)
    for number in range(body.n or 1):
        yield prompt, _numbered(sampling, number)


def _no_room(prompt: Given, reader: Reader, wanted: int, where: str) -> ApiError:
    """A prompt of nothing, or one that with its answer is more than the model reads and writes."""
    size = len(prompt.ids)
    if not size:
        return refuse("http-empty-prompt", param=where)
    if reader.has_source:
        read = len(reader.start(prompt).source)
        return refuse("http-source", param=where, limit=reader.window, prompt=read, room=max(reader.room(prompt), 0),
                      wanted=wanted)  # fmt: skip
    longest = reader.longest(reader.start(prompt))
    return refuse("http-context", param=where, limit=longest, prompt=size, wanted=wanted, total=size + wanted)


def _numbered(sampling: Sampling, number: int) -> Sampling:
    """The n-th choice of a seeded request has its own seed; the first keeps the request's."""
    if sampling.seed is None or number == 0:
        return sampling
    seed = (sampling.seed + 2**63 + number) % 2**64 - 2**63
    return sampling.model_copy(update={"seed": seed})


class _Checker:
    """Runs the guard over the texts of one request and remembers what it did."""

    def __init__(self, guard: Guard | None) -> None:
        self.guard = guard
        self.redacted: set[str] = set()
        self.logged: set[str] = set()

    def text(self, text: str, param: str) -> str:
        """The text the model may see. Raises ApiError when the policy blocks it."""
        if self.guard is None:
            return text
        verdict = self.guard.check(text)
        kinds = {
            action: {f.kind for f in verdict.findings if f.action == action} for action in ("block", "redact", "log")
        }
        if verdict.action == "block":
            raise refuse("http-blocked", param=param, kinds=", ".join(sorted(kinds["block"])))
        self.redacted |= kinds["redact"]
        self.logged |= kinds["log"]
        return verdict.text

    def headers(self) -> dict[str, str]:
        found = {"redacted": self.redacted, "logged": self.logged}
        value = "; ".join(f"{action}={','.join(sorted(kinds))}" for action, kinds in found.items() if kinds)
        return {GUARD_HEADER: value} if value else {}


def _short(name: str) -> str:
    return name if len(name) <= 80 else name[:77] + "..."
