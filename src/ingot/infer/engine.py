"""Continuous batching: many sequences, one model, one step at a time.

    engine = Engine(load("chat"))
    sequence = engine.submit(prompt_ids, Sampling(max_tokens=64))
    while engine.has_work:
        for event in engine.step(): ...

A step admits waiting sequences to free slots, reads at most PREFILL_TOKENS tokens of prompts (so that running sequences
wait little), and gives every sequence whose prompt is read its next token. What is read in both directions (a source, a
prefix) cannot be read in parts: where it is longer than that, it is read alone in one step. How prompts are read is
`reader`'s business, the tensors are `runner`'s. All methods belong to one thread.

What this does not do: paging, sharing prefixes, speculation, or making room by pre-empting.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from collections.abc import Sequence as List
from contextlib import nullcontext
from math import inf

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError, fail
from ingot.core.progress import progress
from ingot.infer.answer import AnswerDecoder
from ingot.infer.reader import Prompt, Reader, Start
from ingot.infer.runner import Runner
from ingot.infer.sampling import Sampling, sample
from ingot.infer.sequence import Event, FinishReason, Sequence, TokenLogprobs
from ingot.text.tokenizer import Tokenizer

PREFILL_TOKENS = 512
"""Prompt tokens read in one step, padding included. Bounds the mask, and the wait of running sequences."""


class Engine:
    """Runs up to `num_slots` sequences at once; the others wait in order of arrival. Raises `does-not-write` for a
    model that writes no text."""

    def __init__(self, model: LanguageModel, num_slots: int = 8, prefill_tokens: int = PREFILL_TOKENS) -> None:
        self.model = model
        self.num_slots = num_slots
        self.prefill_tokens = prefill_tokens
        self.reader = Reader.of(model)
        self.runner = Runner(model, num_slots)
        self.tokenizer = _tokenizer(model)
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._free = list(range(num_slots))
        self._submitted = 0

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def submit(self, prompt: Prompt | List[int], sampling: Sampling | None = None) -> Sequence:
        """Queue a request. Raises what `Reader.check` raises, `token-outside`, `stop-without-tokenizer`."""
        sampling, prompt = sampling or Sampling(), Prompt.of(prompt)
        self.reader.check(prompt)
        outside = [token for token in sampling.logit_bias if token >= self.model.config.vocab_size]
        if outside:
            raise fail("token-outside", where="logit_bias", found=outside[0], size=self.model.config.vocab_size)
        if sampling.stop and self.tokenizer is None:
            raise fail("stop-without-tokenizer", path=self.model.model_dir.path)
        room = self.reader.room(prompt)
        limit = min(room, sampling.max_tokens or room)
        start = self.reader.start(prompt)
        self._submitted += 1
        sequence = Sequence(self._submitted, start, sampling, self.model.generation, limit, self._decoder(start))
        self._waiting.append(sequence)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence now; its slot is free at once. One that has ended stays as it is."""
        if sequence.finish_reason is None:
            self._end(sequence, "cancelled")

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """One token for every sequence whose prompt is read. If it raises, every running sequence ends in "error"."""
        self._admit()
        try:
            reading = self._choose_reading()
            writing = [sequence for sequence in self._running if not sequence.is_reading]
            hidden = [self.runner.run(group, self.prefill_tokens) for group in (reading, writing) if group]
            ready = [sequence for sequence in reading + writing if sequence.num_left == 0]
            events = self._next_tokens(ready, torch.cat(hidden)) if ready else []
        except BaseException as error:
            for sequence in list(self._running):
                self._end(sequence, "error" if isinstance(error, Exception) else "cancelled")
            raise
        for event in events:
            if event.finish_reason is not None:
                self._release(event.sequence)
        return events

    def _admit(self) -> None:
        while self._waiting and self._free:
            sequence = self._waiting.popleft()
            sequence.slot = heapq.heappop(self._free)
            self._running.append(sequence)
            self._running.sort(key=_slot)

    def _choose_reading(self) -> list[Sequence]:
        """Sequences whose prompt goes on in this step: first come first, padded together while that stays small."""
        chosen: list[Sequence] = []
        width = source_width = 0
        for sequence in sorted(self._running, key=lambda other: other.id):
            if sequence.is_reading:
                wider = max(width, sequence.num_next(self.prefill_tokens))
                source_wider = max(source_width, sequence.source_left)
                end = max(other.num_cached for other in [*chosen, sequence]) + wider
                is_small = (wider + source_wider) * (len(chosen) + 1) <= self.prefill_tokens
                if not chosen or (is_small and end <= self.model.max_length):
                    chosen.append(sequence)
                    width, source_width = wider, source_wider
        return sorted(chosen, key=_slot)

    def _next_tokens(self, ready: list[Sequence], hidden_RD: Tensor) -> list[Event]:
        """Draw, and hand each sequence its token."""
        logits_RV = self.runner.network.head(hidden_RD)
        if not bool(logits_RV.amax(-1).isfinite().all()):
            raise fail("logits-not-finite", path=self.model.model_dir.path)
        tokens_R, processed_RV = sample(logits_RV, [sequence.request() for sequence in ready])
        tokens = tokens_R.tolist()
        logprobs = [
            token_logprobs(logits_RV[row], processed_RV[row], token, sequence.sampling)
            for row, (sequence, token) in enumerate(zip(ready, tokens, strict=True))
        ]
        return [sequence.accept(token, entry) for sequence, token, entry in zip(ready, tokens, logprobs, strict=True)]

    def _decoder(self, start: Start) -> AnswerDecoder | None:
        if self.tokenizer is None:
            return None
        return AnswerDecoder(self.tokenizer, start.ids, self.reader.sentinels(self.tokenizer))

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.finish_reason = reason
        if sequence.slot is None:
            self._waiting.remove(sequence)
        else:
            self._release(sequence)

    def _release(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        heapq.heappush(self._free, _slot(sequence))
        sequence.slot = None


def generate(
    model: LanguageModel,
    prompts: Iterable[str | Prompt | List[int]],
    sampling: Sampling | List[Sampling] | None = None,
    num_slots: int = 8,
    label: str | None = None,
) -> list[Sequence]:
    """Complete all prompts (texts, or token ids as they are) and return them in order. `sampling`: one for all, or one
    a prompt; `label`: show progress under this name. Every prompt is checked before the first token is made."""
    reader = Reader.of(model)
    read = [reader.text(model.tokenizer, given) if isinstance(given, str) else given for given in prompts]
    controls = [sampling or Sampling()] * len(read) if not isinstance(sampling, list) else sampling
    engine = Engine(model, max(1, min(num_slots, len(read))))
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
    logprobs_V = (raw_V if sampling.logprobs_mode == "raw" else processed_V).log_softmax(-1)
    best = logprobs_V.topk(min(sampling.logprobs, len(logprobs_V)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    likely = sorted(((other, value) for other, value in pairs if value > -inf), key=lambda pair: (-pair[1], pair[0]))
    return TokenLogprobs(token, float(logprobs_V[token]), tuple(likely))


def _slot(sequence: Sequence) -> int:
    assert sequence.slot is not None
    return sequence.slot


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
