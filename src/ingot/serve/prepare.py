"""From a checked request body to token ids and controls: guard, render, encode, count.

Runs outside the event loop (a long prompt takes a while to tokenise). The text the guard hands back is what the model
sees; nothing is tokenised twice, so a prompt given as token ids is checked by its text and can only pass or be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError
from ingot.guard.guard import Guard
from ingot.infer.constraint.compile import Constraints
from ingot.infer.embed import embed_groups, text_ids, width
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt, Reader
from ingot.infer.sampling.check import check
from ingot.serve.conversation import Conversation
from ingot.serve.errors import ApiError, refuse
from ingot.serve.guarded import Checker
from ingot.serve.schema import ChatBody, CompletionBody, SamplingBody
from ingot.serve.tools.offer import Offer, offer
from ingot.text.tokenizer import Tokenizer

Adapters = tuple[str, ...] | None
"""Those that act on a request, None for all that the model has."""


@dataclass(frozen=True)
class Embedder:
    """read: a text as it is read for a vector; vectors: rows of ids, whether vectors have length 1, and the adapters
    that act, to pieces of places and their vectors; width: numbers of a vector."""

    read: Callable[[str], list[int]]
    vectors: Callable[[Sequence[Sequence[int]], bool, Adapters], Iterator[tuple[list[int], Any]]]
    width: int

    @classmethod
    def of(cls, model: LanguageModel) -> Embedder:
        def vectors(
            rows: Sequence[Sequence[int]], normalize: bool, adapters: Adapters
        ) -> Iterator[tuple[list[int], Any]]:
            return embed_groups(model, rows, normalize=normalize, adapters=adapters)

        return cls(partial(text_ids, model), vectors, width(model))


@dataclass(frozen=True)
class Served:
    """The model behind the server: what a request is checked against. by_name: further names that a request may ask
    for, and the adapters that then act; acting: those that act under the model's own."""

    name: str
    tokenizer: Tokenizer
    reader: Reader
    embedder: Embedder
    constraints: Constraints
    guard: Guard | None = None
    fingerprint: str | None = None
    created: int = 0
    temperature: float = 1.0
    """Of requests that name none."""

    acting: Adapters = None
    by_name: Mapping[str, Adapters] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """What requests may ask for."""
        return [self.name, *self.by_name]

    def adapters(self, name: str | None) -> Adapters:
        """What acts on requests for a name; None stands for the model's own. Raises ApiError for an unknown one."""
        if name is None or name == self.name:
            return self.acting
        if name not in self.by_name:
            raise refuse("http-unknown-model", param="model", found=_short(name), known=", ".join(self.names))
        return self.by_name[name]


@dataclass(frozen=True)
class Given(Prompt):
    """One prompt, with the text to echo (completions only)."""

    text: str = ""


@dataclass
class Prepared:
    """What the engine is asked: so many sequences for each prompt, and headers that tell what the guard did."""

    prompts: list[Given]
    sequences: list[tuple[Prompt, Sampling]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    offer: Offer | None = None
    adapters: Adapters = None


def prepare(body: SamplingBody, served: Served) -> Prepared:
    """Everything that can be refused before the engine is asked. Raises ApiError."""
    adapters = served.adapters(body.model)
    checker = Checker(served.guard)
    offered: Offer | None = None
    if isinstance(body, ChatBody):
        prompt, offered = chat_prompt(body, served, checker)
        prompts, where = [prompt], "messages"
    else:
        assert isinstance(body, CompletionBody)
        prompts, where = [text_prompt(prompt, served, checker, "prompt") for prompt in body.prompt], "prompt"
    _check_form(body, served)
    negative = negative_prompt(body, served, checker)
    sequences = [sequence for prompt in prompts for sequence in _sequences(body, prompt, served, where, negative)]
    return Prepared(prompts, sequences, checker.headers(), offered, adapters)


def _check_ids(sampling: Sampling, served: Served) -> None:
    """Token ids in the controls. Raises ApiError."""
    try:
        check(sampling, served.reader.vocab_size, served.tokenizer, served.tokenizer.path)
    except IngotError as error:
        found = error.details
        raise refuse("http-token-id", param=str(found["where"]), found=found["found"], size=found["size"]) from None


def _check_form(body: SamplingBody, served: Served) -> None:
    """Compile what form the answer is to have; the engine finds it ready."""
    if body.form is None:
        return
    field, constraint = body.form
    try:
        served.constraints.compiled(constraint)
    except IngotError as error:
        raise refuse("http-bad-form", param=field, reason=str(error)) from None


def chat_prompt(body: ChatBody, served: Served, checker: Checker) -> tuple[Given, Offer | None]:
    """A conversation as the model reads it, and what its answer may call. Raises ApiError."""
    offered = offer(body, served.tokenizer)
    talk = Conversation.of(
        body.messages, body.offered, body.add_generation_prompt, body.continue_final_message, checker
    )
    prompt = talk.ids(served.reader, served.tokenizer)
    return Given(prompt.ids, prompt.prefix), offered


def text_prompt(prompt: str | list[int], served: Served, checker: Checker, param: str) -> Given:
    """A text, or token ids as they are. Raises ApiError."""
    if isinstance(prompt, str):
        text = checker.text(prompt, param)
        read = served.reader.text(served.tokenizer, text)
        return Given(read.ids, read.prefix, text)
    for token in prompt:
        if token >= served.reader.vocab_size:
            raise refuse("http-token-id", param=param, found=token, size=served.reader.vocab_size)
    text = served.tokenizer.decode(prompt)
    if checker.text(text, param) != text:
        raise refuse("http-redacted-ids", param=param, kinds=", ".join(checker.redacted))
    return Given(prompt, len(prompt), text)


def negative_prompt(body: SamplingBody, served: Served, checker: Checker) -> list[tuple[str, Given]]:
    """What the model may see of the text to move away from, with its field. Raises ApiError."""
    asked = {"negative_prompt": body.negative_prompt, "negative_prompt_ids": body.negative_prompt_ids}
    return [(name, text_prompt(value, served, checker, name)) for name, value in asked.items() if value is not None]


def _sequences(
    body: SamplingBody, prompt: Given, served: Served, where: str, negative: list[tuple[str, Given]]
) -> Iterable[tuple[Prompt, Sampling]]:
    read = [(where, prompt), *negative]
    wanted = body.limit or max(min(served.reader.room(text) for _, text in read), 1)
    for name, text in read:
        if wanted > served.reader.room(text) or not text.ids:
            raise _no_room(text, served.reader, wanted, name)
    if (body.min_tokens or 0) > wanted:
        raise refuse("http-conflict", param="min_tokens", other="max_tokens")
    seen = {name: text.text for name, text in negative if name == "negative_prompt"}
    sampling = body.sampling(wanted, served.temperature).model_copy(update=seen)
    _check_ids(sampling, served)
    for number in range(body.num_answers):
        yield prompt, sampling.numbered(number)


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


def _short(name: str) -> str:
    return name if len(name) <= 80 else name[:77] + "..."
