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
from ingot.core.errors import fail
from ingot.core.progress import progress
from ingot.infer.answer import AnswerDecoder, tokenizer_of
from ingot.infer.capacity import count_blocks, kv_dtype
from ingot.infer.constraint.compile import Constraints
from ingot.infer.constraint.matcher import Matcher
from ingot.infer.memory import Memory
from ingot.infer.reader import Prompt, Reader, Start
from ingot.infer.runners import make_runner
from ingot.infer.sampling import Sampling, sample, surprise
from ingot.infer.sampling.check import check
from ingot.infer.scheduler import Counters, Reading, Scheduler
from ingot.infer.sequence import Event, FinishReason, Sequence, TokenLogprobs
from ingot.infer.spans import read_fronts, read_sources, span_of
from ingot.infer.speculation.options import Speculation
from ingot.infer.speculation.proposer import Proposer, make_proposer
from ingot.infer.steering.combine import Combiner, Drawable, negative_prompt
from ingot.infer.steering.dola import earlier_layers

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
        self.reader = Reader.of(model)
        self.tokenizer = tokenizer_of(model)
        self.constraints = None if self.tokenizer is None else Constraints(self.tokenizer)
        memory = memory or Memory()
        num_blocks, num_source_blocks = count_blocks(memory, model, num_slots)
        self.front = length_in_front(model.network)
        self.scheduler = Scheduler(num_slots, num_blocks, num_source_blocks, prefill_tokens, self.front)
        self.runner = make_runner(model, num_blocks, num_source_blocks, kv_dtype(memory, model))
        self.proposer: Proposer = make_proposer(speculation or Speculation(), self.runner, num_blocks)
        self.combiner = Combiner()
        self._submitted = 0

    @property
    def has_work(self) -> bool:
        return bool(self.scheduler.waiting or self.scheduler.running)

    @property
    def num_slots(self) -> int:
        return self.scheduler.num_slots

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
        `Constraints.compiled` raise, `cache-too-small`, `unknown-adapter`, `guidance-needs-slots`, what DoLa needs."""
        sampling, prompt = sampling or Sampling(), Prompt.of(prompt)
        check(sampling, self.model.config.vocab_size, self.tokenizer, self.model.model_dir.path)
        self._check_steering(sampling)
        texts = [prompt, negative_prompt(self.model, sampling, prompt)] if sampling.is_guided else [prompt]
        for text in texts:
            self.reader.check(text)
        starts = [self.reader.start(text) for text in texts]
        fitting = self.scheduler.fitting([len(start.ids) for start in starts])
        if fitting < 1:
            raise fail("cache-too-small", found=sum(len(s.ids) for s in starts), limit=self.scheduler.capacity)
        room = min(fitting, *(self.reader.room(text) for text in texts))
        acting = None if adapters is None else self.model.active.chosen(adapters)
        limit, generation = min(room, sampling.max_tokens or room), self.model.generation
        decoder = self._decoder(starts[0])
        roots = [self._root(start, salt, acting) for start in starts]
        sequence = Sequence(
            self._submitted, starts[0], sampling, generation, limit, decoder, roots[0], acting,
            self._matcher(sampling, decoder),
        )  # fmt: skip
        for start, root in zip(starts[1:], roots[1:], strict=True):
            companion = Sequence(self._submitted, start, Sampling(), generation, limit, None, root, acting)
            companion.accompany(sequence)
        if sampling.dola_layers is not None:
            sequence.taps = earlier_layers(self.model.config, sampling.dola_layers)
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
        for sequence in [each for each in self.scheduler.running if each.finish_reason is not None]:
            self.scheduler.remove(sequence)
        return events

    def _read(self, planned: list[Reading]) -> list[Event]:
        """Run what is planned; draw for those whose known tokens are all read then."""
        if not planned:
            return []
        if self.front:
            read_fronts(self.runner, [reading.sequence for reading in planned])
        read_sources(self.runner, [reading.sequence for reading in planned])
        ready = [reading for reading in planned if reading.count == reading.sequence.num_left]
        self.proposer.propose([reading.sequence for reading in ready if not reading.sequence.pair])
        spans = [span_of(reading.sequence, reading.count, _wanted(reading)) for reading in planned]
        hidden_RC = self.runner.run(spans)
        parts = hidden_RC.split([span.num_wanted for span in spans])
        for reading, span, part_TC in zip(planned, spans, parts, strict=True):
            self._score_prompt(reading.sequence, part_TC[: span.wanted])
            reading.sequence.num_cached += reading.count
        if not ready:
            return []
        lasts = [_lasts(r.sequence, part) for r, part in zip(planned, parts, strict=True) if r in ready]
        whole = len(hidden_RC) == sum(map(len, lasts))
        logits_RV = self.runner.head(hidden_RC if whole else torch.cat(lasts))
        if not bool(logits_RV.amax(-1).isfinite().all()):
            raise fail("logits-not-finite", path=self.model.model_dir.path)
        return self._draw(self.combiner.combine([reading.sequence for reading in ready], logits_RV))

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

    def _draw(self, drawable: Drawable) -> list[Event]:
        """The next token of each, and as long as it is the one that was guessed, the one behind it."""
        ready = drawable.sequences
        drafts = [sequence.draft for sequence in ready]
        firsts = [0]
        for draft in drafts:
            firsts.append(firsts[-1] + len(draft) + 1)
        going, events, depth = list(range(len(ready))), [], 0
        while going:
            drawn = self._accept(drawable.rows([firsts[n] + depth for n in going], [ready[n] for n in going]))
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

    def _accept(self, drawable: Drawable) -> list[Event]:
        """Draw one token for each, and hand it over."""
        ready = drawable.sequences
        tokens_R, processed_RV = sample(drawable.steered_RV, [sequence.request() for sequence in ready])
        return [
            sequence.accept(
                token,
                token_logprobs(raw_V, processed_V, token, sequence.sampling),
                surprise(processed_V, token, sequence.sampling),
            )
            for sequence, token, raw_V, processed_V in zip(
                ready, tokens_R.tolist(), drawable.raw_RV, processed_RV, strict=True
            )
        ]

    def _check_steering(self, sampling: Sampling) -> None:
        """Refuse what this engine cannot do."""
        if sampling.is_guided and self.num_slots < 2:
            raise fail("guidance-needs-slots")
        if sampling.dola_layers is not None and not self.runner.has_taps:
            raise fail("dola-needs-layers", path=self.model.model_dir.path)

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


def _lasts(sequence: Sequence, part_RC: Tensor) -> Tensor:
    """Of what was wanted of a text, what tokens are drawn by, for each layer that was asked for."""
    layers = 1 + len(sequence.taps)
    return part_RC.unflatten(0, (layers, -1))[:, -1 - len(sequence.draft) :].flatten(0, 1)


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
    sampling = sampling or Sampling()
    controls = [sampling] * len(read) if isinstance(sampling, Sampling) else sampling
    texts = sum(2 if control.is_guided else 1 for control in controls)
    engine = Engine(model, max(1, min(num_slots, texts)), memory=memory, speculation=speculation)
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


def _ignore(completed: float, note: str = "") -> None:
    """Progress that nobody asked for."""
