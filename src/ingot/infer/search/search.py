"""Search for whole answers to prompts, several prompts side by side.

    search(load("chat"), ["one", "two"], Search(kind="beam", beams=4, results=2))[0][1].sequence.text

Each method in SEARCHES is a generator that says which texts are to be read and is sent what the model thinks of them,
so that all prompts' texts are read in the same passes. A prompt begins when the blocks that it may need at most are
free, so that none ever has to give up what it has.

Of a request's controls those act that make sense for a search; any other is refused by name. Stop strings, log-
probabilities and constraints are not looked at here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Sequence as List
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.adapt.methods import length_in_front
from ingot.core.errors import fail
from ingot.core.progress import progress
from ingot.infer.answer import AnswerDecoder, tokenizer_of
from ingot.infer.blocks import BLOCK, blocks_for
from ingot.infer.capacity import count_blocks, kv_dtype
from ingot.infer.memory import Memory
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt, Reader, Start
from ingot.infer.runners import make_runner
from ingot.infer.sampling.check import check as check_sampling
from ingot.infer.search.beam import beam, diverse
from ingot.infer.search.best import Answer, Ask, Found, Steps
from ingot.infer.search.branches import Branches
from ingot.infer.search.contrastive import contrastive
from ingot.infer.search.options import Search
from ingot.infer.sequence import Sequence

SEARCHES: dict[str, Callable[[Sequence, Search, Branches], Steps]] = {
    "beam": beam,
    "diverse": diverse,
    "contrastive": contrastive,
}

CONTROLS = frozenset({
    "max_tokens", "min_tokens", "ignore_eos", "repetition_penalty", "presence_penalty", "frequency_penalty",
    "penalty_last_n", "logit_bias", "allowed_token_ids", "stop_token_ids",
})  # fmt: skip
"""Controls of a request that act in a search."""


@dataclass
class _Running:
    """A prompt whose answers are being searched. reserved: blocks that it may hold at most."""

    number: int
    root: Sequence
    reserved: int
    steps: Steps
    ask: Ask | None = None


class Searcher:
    """Searches with one model; up to `num_slots` texts are read at once, those of one prompt at least. Raises
    `does-not-write`, what `count_blocks` raises."""

    def __init__(self, model: LanguageModel, options: Search, num_slots: int = 8, memory: Memory | None = None) -> None:
        self.model, self.options = model, options
        self.reader, self.tokenizer = Reader.of(model), tokenizer_of(model)
        memory, self.at_once = memory or Memory(), max(1, num_slots // options.width)
        num_blocks, num_source_blocks = count_blocks(memory, model, self.at_once * options.width)
        self.runner = make_runner(model, num_blocks, num_source_blocks, kv_dtype(memory, model))
        self.branches = Branches(self.runner, num_blocks, num_source_blocks, length_in_front(model.network))

    def root(self, number: int, prompt: Prompt, sampling: Sampling) -> Sequence:
        """A prompt as a text to search from. Raises what `Reader.check` raises, `cache-too-small`."""
        self.reader.check(prompt)
        start = self.reader.start(prompt)
        fitting = self._fitting(len(start.ids))
        if fitting < 1:
            raise fail("cache-too-small", found=len(start.ids), limit=len(start.ids) + fitting)
        room = min(self.reader.room(prompt), fitting)
        return self.text(number, start, sampling, min(room, sampling.max_tokens or room))

    def text(self, number: int, start: Start, sampling: Sampling, limit: int) -> Sequence:
        """A text that begins so, and has words where the model has a tokenizer."""
        decoder = None
        if self.tokenizer is not None:
            decoder = AnswerDecoder(self.tokenizer, start.ids, self.reader.sentinels(self.tokenizer))
        return Sequence(number, start, sampling, self.model.generation, limit, decoder)

    @torch.inference_mode()
    def run(self, roots: List[Sequence], advance: Callable[[float], None]) -> list[list[Found]]:
        """What is found for each prompt."""
        found: list[list[Found]] = [[] for _ in roots]
        waiting, running = deque(enumerate(roots)), list[_Running]()
        while waiting or running:
            while waiting and len(running) < self.at_once and self._fits(waiting[0][1], running):
                running.append(self._begin(*waiting.popleft()))
            for each, answer in zip(running, self._answers([each.ask for each in running if each.ask]), strict=True):
                try:
                    each.ask = each.steps.send(answer)
                except StopIteration as end:
                    found[each.number], each.ask = end.value, None
                    self.branches.end(each.root)
            running = [each for each in running if each.ask]
            advance(len(roots) - len(waiting) - len(running))
        return found

    def _begin(self, number: int, root: Sequence) -> _Running:
        self.branches.begin(root)
        steps = SEARCHES[self.options.kind](root, self.options, self.branches)
        return _Running(number, root, self._most(root), steps, next(steps))

    def _answers(self, asks: list[Ask]) -> list[Answer]:
        """Read what all searches ask for, together."""
        texts = [text for ask in asks for text in ask.texts]
        hidden = self.branches.read(texts, [ask.every for ask in asks for _ in ask.texts])
        logits_RV = self._logits(torch.cat([hidden_TC[-1:] for hidden_TC in hidden]))
        answers, begin = [], 0
        for ask in asks:
            end = begin + len(ask.texts)
            answers.append(Answer(hidden[begin:end], logits_RV[begin:end]))
            begin = end
        return answers

    def _logits(self, hidden_RC: Tensor) -> Tensor:
        logits_RV = self.runner.head(hidden_RC)
        if not bool(logits_RV.amax(-1).isfinite().all()):
            raise fail("logits-not-finite", path=self.model.model_dir.path)
        return logits_RV

    def _fits(self, root: Sequence, running: list[_Running]) -> bool:
        held = sum(each.reserved for each in running)
        return not running or held + self._most(root) < self.branches.blocks.num_blocks

    def _most(self, root: Sequence) -> int:
        """How many blocks a search may hold: what all texts share, and what each has by itself."""
        begin = self.branches.front + len(root.start.ids)
        shared = begin // BLOCK
        return shared + self.options.width * (blocks_for(begin + root.room) - shared)

    def _fitting(self, length: int) -> int:
        """How many tokens fit behind a prompt in every text of a search that runs alone."""
        begin = self.branches.front + length
        shared = begin // BLOCK
        own = (self.branches.blocks.num_blocks - 1 - shared) // self.options.width
        return (shared + own) * BLOCK - begin


def search(
    model: LanguageModel,
    prompts: Iterable[str | Prompt | List[int]],
    options: Search,
    sampling: Sampling | None = None,
    num_slots: int = 8,
    label: str | None = None,
    memory: Memory | None = None,
) -> list[list[Found]]:
    """What is found for each prompt, the best first. Every prompt is checked before the first is read. Raises
    `not-in-search` for controls that a search cannot follow, `token-outside`, what `Searcher` raises."""
    sampling = sampling or Sampling()
    check(options, sampling)
    searcher = Searcher(model, options, num_slots, memory)
    check_sampling(sampling, model.config.vocab_size, searcher.tokenizer, model.model_dir.path)
    read = [searcher.reader.text(model.tokenizer, given) if isinstance(given, str) else given for given in prompts]
    roots = [searcher.root(number, Prompt.of(prompt), sampling) for number, prompt in enumerate(read)]
    with progress(label, len(roots)) if label else nullcontext(_ignore) as advance:
        found = searcher.run(roots, advance)
    return [[_told(searcher, each) for each in own[: options.results]] for own in found]


def check(options: Search, sampling: Sampling) -> None:
    """Refuse what a search cannot follow."""
    if options.kind == "off":
        raise fail("search-is-off", kinds=", ".join(SEARCHES))
    for name, field in Sampling.model_fields.items():
        if name not in CONTROLS and getattr(sampling, name) != field.get_default(call_default_factory=True):
            raise fail("not-in-search", name=name, kind=options.kind)


def _told(searcher: Searcher, found: Found) -> Found:
    """The same answer with its text."""
    silent = found.sequence
    told = searcher.text(silent.id, silent.start, silent.sampling, len(silent.tokens) + silent.room)
    for token in silent.tokens:
        told.accept(token, None)
    return Found(told, found.score)


def _ignore(completed: float, note: str = "") -> None:
    """Progress that nobody asked for."""
