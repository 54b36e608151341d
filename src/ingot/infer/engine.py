"""Continuous batching: many sequences, one model, one step at a time.

    engine = Engine(load("chat"))
    sequence = engine.submit(prompt_ids, Sampling(max_tokens=64))
    while engine.has_work:
        for event in engine.step(): ...

Who runs and what is read is `scheduler`'s business, the tensors are `runner`'s, how prompts are read is `reader`'s. A
step gives every sequence whose prompt is read its next token, or several where a proposer guessed what follows: guesses
are read together and each is compared with the token that is drawn in its place, so that they change no answer. All
methods belong to one thread.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from collections.abc import Sequence as List
from contextlib import nullcontext
from math import inf

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.adapt.methods import length_in_front
from ingot.core.errors import IngotError, fail
from ingot.core.progress import progress
from ingot.infer.answer import AnswerDecoder
from ingot.infer.capacity import count_blocks, kv_dtype
from ingot.infer.constraint.compile import Constraints
from ingot.infer.constraint.matcher import Matcher
from ingot.infer.memory import Memory
from ingot.infer.reader import Prompt, Reader, Start
from ingot.infer.runner import Span, TorchRunner
from ingot.infer.runners import make_runner
from ingot.infer.sampling import Sampling, sample, surprise
from ingot.infer.sampling.check import check
from ingot.infer.scheduler import Counters, Reading, Scheduler
from ingot.infer.sequence import Event, FinishReason, Sequence, TokenLogprobs
from ingot.infer.speculation.options import Speculation
from ingot.infer.speculation.proposer import Proposer, make_proposer
from ingot.text.tokenizer import Tokenizer

PREFILL_TOKENS = 512
"""Prompt tokens read in one step where nobody writes."""

LOGITS_AT_ONCE = 1 << 23
"""Numbers of a prompt's logits that are made at a time."""


class Engine:
    """Runs up to `num_slots` sequences at once; the others wait in order of arrival. `memory`: of the cache of keys and
    values. Raises `does-not-write` for a model that writes no text, what `count_blocks` and `make_proposer` raise."""

    def __init__(
        self,
        model: LanguageModel,
        num_slots: int = 8,
        prefill_tokens: int = PREFILL_TOKENS,
        memory: Memory | None = None,
        speculation: Speculation | None = None,
    ) -> None:
        self.model = model
        self.num_slots = num_slots
        self.reader = Reader.of(model)
        self.tokenizer = _tokenizer(model)
        self.constraints = None if self.tokenizer is None else Constraints(self.tokenizer)
        memory = memory or Memory()
        num_blocks, num_source_blocks = count_blocks(memory, model, num_slots)
        self.front = length_in_front(model.network)
        self.scheduler = Scheduler(num_slots, num_blocks, num_source_blocks, prefill_tokens, self.front)
        self.runner = make_runner(model, num_blocks, num_source_blocks, kv_dtype(memory, model))
        self.proposer: Proposer = make_proposer(speculation or Speculation(), self.runner, num_blocks)
        self._submitted = 0

    @property
    def has_work(self) -> bool:
        return bool(self.scheduler.waiting or self.scheduler.running)

    @property
    def num_running(self) -> int:
        return len(self.scheduler.running)

    @property
    def num_waiting(self) -> int:
        return len(self.scheduler.waiting)

    @property
    def num_blocks(self) -> int:
        """Blocks that sequences may hold."""
        return self.scheduler.blocks.num_blocks - 1

    @property
    def num_free_blocks(self) -> int:
        """Blocks that no sequence holds now."""
        return self.scheduler.blocks.num_free

    @property
    def counters(self) -> Counters:
        return self.scheduler.counters

    def submit(
        self,
        prompt: Prompt | List[int],
        sampling: Sampling | None = None,
        salt: str = "",
        adapters: List[str] | None = None,
    ) -> Sequence:
        """Queue a request. Only requests with the same `salt` share what the cache holds. `adapters`: those of the
        model's that act, in its order; None for all. Raises what `Reader.check`, `check`, `State` and
        `Constraints.compiled` raise, `cache-too-small`, `unknown-adapter`."""
        sampling, prompt = sampling or Sampling(), Prompt.of(prompt)
        self.reader.check(prompt)
        check(sampling, self.model.config.vocab_size, self.tokenizer, self.model.model_dir.path)
        start = self.reader.start(prompt)
        fitting = self.scheduler.capacity - len(start.ids)
        if fitting < 1:
            raise fail("cache-too-small", found=len(start.ids), limit=self.scheduler.capacity)
        room = min(self.reader.room(prompt), fitting)
        acting = None if adapters is None else self.model.active.chosen(adapters)
        decoder = self._decoder(start)
        sequence = Sequence(
            self._submitted, start, sampling, self.model.generation, min(room, sampling.max_tokens or room),
            decoder, self._root(start, salt, acting), acting, self._matcher(sampling, decoder),
        )  # fmt: skip
        self._submitted += 1
        self.scheduler.add(sequence)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence now; its blocks are free at once. One that has ended stays as it is."""
        if sequence.finish_reason is None:
            self._end(sequence, "cancelled")

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """A token or more for every sequence whose prompt is read. If it raises, every running sequence ends in
        "error"."""
        try:
            self.scheduler.admit()
            planned = self.scheduler.plan(self.proposer.ahead)
            with self.proposer.timed(planned) as events:
                events += self._read(planned)
        except BaseException as error:
            for sequence in list(self.scheduler.running):
                self._end(sequence, "error" if isinstance(error, Exception) else "cancelled")
            raise
        for reading in planned:
            self.scheduler.publish(reading.sequence)
            if reading.sequence.finish_reason is not None:
                self.scheduler.remove(reading.sequence)
        return events

    def _read(self, planned: list[Reading]) -> list[Event]:
        """Run what is planned; draw for those whose known tokens are all read then."""
        if not planned:
            return []
        self._read_fronts([reading.sequence for reading in planned])
        self._read_sources([reading.sequence for reading in planned])
        ready = [reading for reading in planned if reading.count == reading.sequence.num_left]
        self.proposer.propose([reading.sequence for reading in ready])
        spans = [_span(reading) for reading in planned]
        hidden_RC = self.runner.run(spans)
        parts = hidden_RC.split([span.wanted for span in spans])
        for reading, part_TC in zip(planned, parts, strict=True):
            self._score_prompt(reading.sequence, part_TC)
            reading.sequence.num_cached += reading.count
        if not ready:
            return []
        lasts = [part[-1 - len(r.sequence.draft) :] for r, part in zip(planned, parts, strict=True) if r in ready]
        whole = len(hidden_RC) == sum(map(len, lasts))
        logits_RV = self.runner.head(hidden_RC if whole else torch.cat(lasts))
        if not bool(logits_RV.amax(-1).isfinite().all()):
            raise fail("logits-not-finite", path=self.model.model_dir.path)
        return self._draw([reading.sequence for reading in ready], logits_RV)

    def _score_prompt(self, sequence: Sequence, hidden_TC: Tensor) -> None:
        """Keep how likely the prompt's tokens were that these hidden states come before, where that is asked for."""
        found = sequence.prompt_logprobs
        if found is None or len(found) == len(sequence.start.ids):
            return
        begin, count = sequence.num_cached + 1, sequence.sampling.prompt_logprobs or 0
        for part_TC in hidden_TC.split(max(1, LOGITS_AT_ONCE // self.model.config.vocab_size)):
            logprobs_TV = self.runner.head(part_TC).log_softmax(-1)
            targets = sequence.start.ids[begin : begin + len(part_TC)]
            found += [  # a text that is read again was scored up to here
                likely(row_V, token, count)
                for at, (row_V, token) in enumerate(zip(logprobs_TV, targets, strict=False), start=begin)
                if at >= len(found)
            ]
            begin += len(part_TC)

    def _draw(self, ready: list[Sequence], logits_RV: Tensor) -> list[Event]:
        """The next token of each, and as long as it is the one that was guessed, the one behind it."""
        drafts = [sequence.draft for sequence in ready]
        firsts = [0]
        for draft in drafts:
            firsts.append(firsts[-1] + len(draft) + 1)
        going, events, depth = list(range(len(ready))), [], 0
        while going:
            drawn = self._accept([ready[n] for n in going], _rows(logits_RV, [firsts[n] + depth for n in going]))
            events += drawn
            going = [
                number
                for number, event in zip(going, drawn, strict=True)
                if event.finish_reason is None and drafts[number][depth : depth + 1] == [event.token_id]
            ]
            for number in going:
                ready[number].num_cached += 1
            self.counters.accepted += len(going)
            depth += 1
        for sequence in ready:
            self.counters.drafted += len(sequence.draft)
            sequence.draft = []
        return events

    def _accept(self, ready: list[Sequence], logits_RV: Tensor) -> list[Event]:
        """Draw one token for each, and hand it over."""
        tokens_R, processed_RV = sample(logits_RV, [sequence.request() for sequence in ready])
        return [
            sequence.accept(
                token,
                token_logprobs(raw_V, processed_V, token, sequence.sampling),
                surprise(processed_V, token, sequence.sampling),
            )
            for sequence, token, raw_V, processed_V in zip(
                ready, tokens_R.tolist(), logits_RV, processed_RV, strict=True
            )
        ]

    def _read_fronts(self, planned: list[Sequence]) -> None:
        new = [sequence for sequence in planned if sequence.num_cached == 0]
        if self.front and new:
            assert isinstance(self.runner, TorchRunner)
            kept = self.runner.keep_front([each.blocks for each in new], [each.adapters for each in new])
            for sequence, length in zip(new, kept, strict=True):
                sequence.front_cached = length

    def _read_sources(self, planned: list[Sequence]) -> None:
        new = [sequence for sequence in planned if sequence.source_left]
        if new:
            assert isinstance(self.runner, TorchRunner)
            kept = self.runner.read_sources(
                [each.start.source for each in new],
                [each.source_blocks for each in new],
                [each.adapters for each in new],
            )
            for sequence, length in zip(new, kept, strict=True):
                sequence.source_cached = length

    def _root(self, start: Start, salt: str, adapters: tuple[str, ...] | None) -> Hashable:
        """What a text's keys and values depend on beside its tokens; None where it shares none: what is read in both
        directions, or behind what an adapter put there."""
        if start.prefix or start.source or self.front:
            return None
        crossing = self.reader.crossing
        scaled_to = len(start.ids) if crossing is not None and len(start.ids) > crossing else None
        return (salt, adapters, scaled_to)

    def _decoder(self, start: Start) -> AnswerDecoder | None:
        if self.tokenizer is None:
            return None
        return AnswerDecoder(self.tokenizer, start.ids, self.reader.sentinels(self.tokenizer))

    def _matcher(self, sampling: Sampling, decoder: AnswerDecoder | None) -> Matcher | None:
        """What holds an answer to its constraint. Raises what `Constraints.compiled` does, and
        `constraint-without-tokenizer`."""
        if sampling.constraint is None:
            return None
        if self.constraints is None or decoder is None:
            raise fail("constraint-without-tokenizer", path=self.model.model_dir.path)
        return self.constraints.matcher(sampling.constraint, self.model.eos_ids, decoder.begins_text)

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.finish_reason = reason
        self.scheduler.remove(sequence)


def _rows(logits_RV: Tensor, rows: list[int]) -> Tensor:
    """Some rows, without copying them when they are all."""
    return logits_RV if rows == list(range(len(logits_RV))) else logits_RV[rows]


def _span(reading: Reading) -> Span:
    sequence, start = reading.sequence, reading.sequence.start
    return Span(
        ids=[*sequence.known(sequence.num_cached, reading.count), *sequence.draft],
        begin=sequence.next_position,
        blocks=sequence.blocks,
        wanted=_wanted(reading),
        length=sequence.front_cached + len(start.ids),
        front=sequence.front_cached,
        prefix=start.prefix,
        adapters=sequence.adapters,
        source_blocks=sequence.source_blocks,
        source=sequence.source_cached,
    )


def _wanted(reading: Reading) -> int:
    """How many hidden states: one for each token that may be drawn, or all where the prompt's are asked for."""
    sequence = reading.sequence
    scored = sequence.prompt_logprobs is not None and sequence.is_reading
    if scored:
        return reading.count
    return 1 + len(sequence.draft) if reading.count == sequence.num_left else 0


def generate(
    model: LanguageModel,
    prompts: Iterable[str | Prompt | List[int]],
    sampling: Sampling | List[Sampling] | None = None,
    num_slots: int = 8,
    label: str | None = None,
    memory: Memory | None = None,
    speculation: Speculation | None = None,
) -> list[Sequence]:
    """Complete all prompts (texts, or token ids as they are) and return them in order. `sampling`: one for all, or one
    a prompt; `label`: show progress under this name. Every prompt is checked before the first token is made."""
    reader = Reader.of(model)
    read = [reader.text(model.tokenizer, given) if isinstance(given, str) else given for given in prompts]
    controls = [sampling or Sampling()] * len(read) if not isinstance(sampling, list) else sampling
    engine = Engine(model, max(1, min(num_slots, len(read))), memory=memory, speculation=speculation)
    sequences = [engine.submit(prompt, control) for prompt, control in zip(read, controls, strict=True)]
    with progress(label, len(sequences)) if label else nullcontext(_ignore) as advance:
        while engine.has_work:
            engine.step()
            advance(len(sequences) - engine.num_running - engine.num_waiting)
    return sequences


def token_logprobs(raw_V: Tensor, processed_V: Tensor, token: int, sampling: Sampling) -> TokenLogprobs | None:
    """Log-probabilities of one drawn token, from the distribution that the request asks for."""
    if sampling.logprobs is None:
        return None
    logits_V = raw_V if sampling.logprobs_mode == "raw" else processed_V
    return likely(logits_V.log_softmax(-1), token, sampling.logprobs)


def likely(logprobs_V: Tensor, token: int, count: int) -> TokenLogprobs:
    """A token's log-probability beside the `count` largest."""
    best = logprobs_V.topk(min(count, len(logprobs_V)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    largest = sorted(((other, value) for other, value in pairs if value > -inf), key=lambda pair: (-pair[1], pair[0]))
    return TokenLogprobs(token, float(logprobs_V[token]), tuple(largest))


def _tokenizer(model: LanguageModel) -> Tokenizer | None:
    """None for a directory without one: its sequences have tokens and no text."""
    try:
        return model.tokenizer
    except IngotError as error:
        if error.code != "no-tokenizer":
            raise
        return None


def _ignore(completed: float, note: str = "") -> None:
    """Progress that nobody asked for."""
