"""Reading preferences: pairs of a chosen and a rejected answer, and single answers labelled good or bad.

Forms are told by keys (`pair_forms`); all become messages. What would teach nothing or the wrong thing is refused by
line: equal answers, an empty one, roles out of order, answers to different questions. Pairs that repeat or contradict
each other are counted and said before anything trains.

Rendered, a pair has the ids and masks of prompt with chosen and prompt with rejected; only the answers are targets, and
the first `prompt` ids of both are the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ingot.core.errors import fail
from ingot.core.progress import track, warn
from ingot.data.chat_forms import FORMS, unread
from ingot.data.chats import Chat, TemplateWatch, check_strings, explained, form_of, render_at
from ingot.data.licence import stated_licence
from ingot.data.pair_forms import LABELS, PAIR_FORMS, label_of, sides
from ingot.data.records import places, stream
from ingot.data.turns import Messages, Tools, check_turns, read_tools
from ingot.text.chat import Rendered, check_messages
from ingot.text.tokenizer import Tokenizer


class Pair(NamedTuple):
    """What was asked, the better answer and the worse one, each as messages; the line (or record) it stands on, its
    file's name, and its licence if known.

    An answer begins and ends with the assistant; between may stand calls and what tools gave back. `ranked` is how many
    answers the record ranks, of which these are the first two.
    """

    prompt: Messages
    chosen: Messages
    rejected: Messages
    line: int
    source: str = ""
    licence: str | None = None
    tools: Tools | None = None
    form: str = "chosen-rejected"
    unread: tuple[str, ...] = ()
    ranked: int = 2


class Labelled(NamedTuple):
    """What was asked, one answer as messages, whether it is a good one; and where it stands, as for a pair."""

    prompt: Messages
    answer: Messages
    good: bool
    line: int
    source: str = ""
    licence: str | None = None
    tools: Tools | None = None
    form: str = "messages"
    unread: tuple[str, ...] = ()


class RenderedPair(NamedTuple):
    """Prompt with chosen, prompt with rejected; `prompt` ids at the beginning of both are the same and no target."""

    chosen: Rendered
    rejected: Rendered
    prompt: int
    line: int


class RenderedAnswer(NamedTuple):
    """Prompt with answer; the first `prompt` ids are no target."""

    answer: Rendered
    good: bool
    prompt: int
    line: int


def read_pairs(path: str | Path, *, skip_bad: bool = False) -> list[Pair]:
    """The pairs of a file, or of the `chat` files of a directory's manifest. Wrong records are refused with the number
    of them, or with `skip_bad` said and left out; repeated and contradicting pairs are warned of.

    Raises what `read_chats` raises.
    """
    pairs = list(stream(path, pair_of, skip_bad=skip_bad))
    tell_ranked(pairs)
    for code, lines in (("pairs-repeated", repeats(pairs)), ("pairs-contradict", contradictions(pairs))):
        if lines:
            warn(code, count=f"{len(lines):,}", places=places([line for line, _ in lines]))
    return pairs


def tell_ranked(pairs: Sequence[Pair]) -> None:
    """Warn of records that rank more answers than the two that are taken."""
    ranked = [pair.line for pair in pairs if pair.ranked > 2]
    if ranked:
        warn("pairs-ranked", count=f"{len(ranked):,}", places=places(ranked))


def read_labelled(path: str | Path, *, skip_bad: bool = False) -> list[Labelled]:
    """The labelled answers of a file, as `read_pairs` reads pairs. Raises `one-label` where all are good or all bad."""
    found = list(stream(path, labelled_of, skip_bad=skip_bad))
    if lines := repeats(found):
        warn("answers-repeated", count=f"{len(lines):,}", places=places([line for line, _ in lines]))
    if len({one.good for one in found}) == 1:
        raise fail("one-label", path=path, label=json.dumps(found[0].good), count=len(found))
    return found


def pair_of(path: Path, line: int, record: dict[str, Any], licence: str | None = None) -> Pair:
    """A record as a pair. Raises what `read_pairs` says of it."""
    name = form_of("pairs", PAIR_FORMS, path, line, record)

    def read() -> Pair:
        prompt, chosen, rejected, ranked = sides(record, PAIR_FORMS[name])
        for answer in (chosen, rejected):
            _check([*prompt, *answer], len(prompt))
        if chosen == rejected:
            raise fail("pair-equal")
        where, rest = (line, path.name, stated_licence(record) or licence), unread(record, PAIR_FORMS[name])
        return Pair(prompt, chosen, rejected, *where, read_tools(record.get("tools")), name, rest, ranked)

    pair = explained(path, line, read)
    check_strings(path, line, *pair[:3], pair.tools)
    return pair


def labelled_of(path: Path, line: int, record: dict[str, Any], licence: str | None = None) -> Labelled:
    """A record as a labelled answer: the last turn of a conversation, or its completion."""
    name = form_of("labelled", FORMS, path, line, record)

    def read() -> Labelled:
        good = label_of(record)
        messages, first = FORMS[name].read(record)
        first = first or len(messages) - 1
        _check(messages, first)
        where, rest = (line, path.name, stated_licence(record) or licence), unread(record, FORMS[name], LABELS)
        return Labelled(messages[:first], messages[first:], good, *where, read_tools(record.get("tools")), name, rest)

    found = explained(path, line, read)
    check_strings(path, line, *found[:2], found.tools)
    return found


def _check(messages: Messages, first: int) -> None:
    """A conversation whose answer begins at `first`. Raises `bad-message`, `pair-weight`, `pair-no-answer`."""
    check_messages(messages)
    check_turns(messages)
    if any("weight" in message for message in messages):
        raise fail("pair-weight")
    if messages[first]["role"] != "assistant" or messages[-1]["role"] != "assistant":
        raise fail("pair-no-answer", number=first + 1, role=messages[first]["role"], last=messages[-1]["role"])


def repeats(items: Sequence[Pair | Labelled | Chat]) -> list[tuple[int, int]]:
    """(line, line of the first) for each item that says what an earlier one says."""
    first: dict[str, int] = {}
    found = []
    for item in items:
        key = key_of(item)
        if key in first:
            found.append((item.line, first[key]))
        first.setdefault(key, item.line)
    return found


def key_of(item: Pair | Labelled | Chat) -> str:
    """The same for two items that say the same."""
    said = (item.messages, sorted(item.learn or ())) if isinstance(item, Chat) else item[:3]
    return _key(*said, item.tools)


def contradictions(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """(line, line of the first) for each pair whose answers an earlier one has the other way round."""
    first: dict[str, int] = {}
    found = []
    for pair in pairs:
        turned = key_of(pair._replace(chosen=pair.rejected, rejected=pair.chosen))
        if turned in first:
            found.append((pair.line, first[turned]))
        first.setdefault(key_of(pair), pair.line)
    return found


def _key(*parts: object) -> str:
    return json.dumps(parts, sort_keys=True, ensure_ascii=True)


def render_pairs(pairs: Sequence[Pair], tokenizer: Tokenizer) -> list[RenderedPair]:
    """Render both sides of every pair. Raises, with the line, `chat-not-rendered`, `pair-not-told-apart` (the template
    writes both answers alike) and `pair-prompt-changes` (it writes the prompt differently before them)."""
    found = [render_pair(pair, tokenizer) for pair in track(pairs, "render", len(pairs))]
    watch = TemplateWatch(tokenizer)
    for pair, rendered in zip(pairs, found, strict=True):
        watch.see(as_chat(pair), rendered.chosen)
    watch.tell()
    return found


def render_pair(pair: Pair, tokenizer: Tokenizer) -> RenderedPair:
    """One pair, as `render_pairs` renders them."""
    chosen, rejected = (
        _render(pair.line, pair.prompt, answer, pair.tools, tokenizer) for answer in (pair.chosen, pair.rejected)
    )
    prompt = min(chosen.mask.index(True), rejected.mask.index(True))
    if chosen.ids == rejected.ids:
        raise fail("pair-not-told-apart", line=pair.line)
    if chosen.ids[:prompt] != rejected.ids[:prompt]:
        raise fail("pair-prompt-changes", line=pair.line)
    return RenderedPair(chosen, rejected, prompt, pair.line)


def render_labelled(answers: Sequence[Labelled], tokenizer: Tokenizer) -> list[RenderedAnswer]:
    """Render every labelled answer behind its prompt. Raises `chat-not-rendered` with the line."""
    found = [render_answer(one, tokenizer) for one in track(answers, "render", len(answers))]
    watch = TemplateWatch(tokenizer)
    for one, rendered in zip(answers, found, strict=True):
        watch.see(as_chat(one), rendered.answer)
    watch.tell()
    return found


def render_answer(one: Labelled, tokenizer: Tokenizer) -> RenderedAnswer:
    """One labelled answer, as `render_labelled` renders them."""
    answer = _render(one.line, one.prompt, one.answer, one.tools, tokenizer)
    return RenderedAnswer(answer, one.good, answer.mask.index(True), one.line)


def _render(line: int, prompt: Messages, answer: Messages, tools: Tools | None, tokenizer: Tokenizer) -> Rendered:
    """Prompt and answer, of which only the answer is learnt. Raises `no-target`."""
    learn = frozenset(range(len(prompt), len(prompt) + len(answer)))
    found = render_at(line, [*prompt, *answer], tokenizer, tools, learn)
    if not any(found.mask):
        raise fail("no-target", number=line)
    return found


def as_chat(item: Pair | Labelled | Chat) -> Chat:
    """The conversation that an item is, a pair's with the chosen answer."""
    if isinstance(item, Chat):
        return item
    answer = item.chosen if isinstance(item, Pair) else item.answer
    return Chat([*item.prompt, *answer], item.line, item.source, item.licence, item.tools)
