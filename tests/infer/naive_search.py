"""The searches again from their papers' formulas, obviously right: every text goes through the whole model at every
step, all numbers are float64, nothing is shared or kept. `begin`: what the side that writes reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax, softmax

from ingot.adapt.load import LanguageModel
from ingot.infer.search.options import Search
from ingot.model.encoder_decoder import EncoderDecoder


def outlook(model: LanguageModel, prompt: list[int], answer: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits behind an answer, (V,), and the hidden states of all that was read, (S, C)."""
    with torch.inference_mode():
        if isinstance(model.network, EncoderDecoder):
            read = torch.tensor([[model.start_id, *answer]])
            hidden = model.network(read, source_ids_BS=torch.tensor([prompt]))
        else:
            read = torch.tensor([[*prompt, *answer]])
            prefix = (torch.arange(read.shape[1]) < len(prompt))[None] if model.config.prefix_lm else None
            hidden = model.decoder(read, prefix_BT=prefix)
        return model.writer.head(hidden)[0, -1].double().numpy(), hidden[0].double().numpy()


@dataclass
class Hypothesis:
    tokens: tuple[int, ...]
    total: float


def naive_beams(
    model: LanguageModel, prompt: list[int], options: Search, limit: int, ends: frozenset[int]
) -> list[tuple[list[int], float]]:
    """Tokens and scores, the best first. Each group is a list of open hypotheses and one of ended ones."""
    num_groups = options.groups if options.kind == "diverse" else 1
    size = options.beams // num_groups
    opened = [[Hypothesis((), 0.0)] for _ in range(num_groups)]
    ended: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in range(num_groups)]
    for length in range(1, limit + 1):
        said: list[int] = []
        for group in range(num_groups):
            tried = []
            for rank, hypothesis in enumerate(opened[group]):
                scores = log_softmax(outlook(model, prompt, list(hypothesis.tokens))[0])
                for token in said:
                    scores[token] -= options.diversity_penalty
                tried += [(-(hypothesis.total + score), rank, token, hypothesis) for token, score in enumerate(scores)]
            tried = sorted(tried, key=lambda entry: entry[:3])[: max(2, 1 + len(ends)) * size]
            found = [Hypothesis((*h.tokens, token), -cost) for cost, _, token, h in tried]
            done = [h.tokens[-1] in ends or length == limit for h in found]
            ended[group] += [
                (h.total / length**options.length_penalty, h.tokens)
                for h, is_done in list(zip(found, done, strict=True))[:size] if is_done
            ]  # fmt: skip
            ended[group] = sorted(ended[group], key=lambda entry: -entry[0])[:size]
            opened[group] = [h for h, is_done in zip(found, done, strict=True) if not is_done][:size]
            if opened[group] and len(ended[group]) == size:
                ahead = limit if options.early_stopping == "never" and options.length_penalty > 0 else length
                hopeless = opened[group][0].total / ahead**options.length_penalty <= ended[group][-1][0]
                opened[group] = [] if hopeless or options.early_stopping == "true" else opened[group]
            said += [h.tokens[-1] for h in opened[group]]
    every = sorted((entry for group in ended for entry in group), key=lambda entry: -entry[0])
    return [(list(tokens), score) for score, tokens in every[: options.results]]


def naive_contrastive(
    model: LanguageModel, prompt: list[int], options: Search, limit: int, ends: frozenset[int]
) -> list[int]:
    answer: list[int] = []
    while len(answer) < limit and not (answer and answer[-1] in ends):
        logits, hidden = outlook(model, prompt, answer)
        shares = softmax(logits)
        candidates = sorted(range(len(shares)), key=lambda token: (-shares[token], token))[: options.candidates]
        before = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
        scores = []
        for token in candidates:
            own = outlook(model, prompt, [*answer, token])[1][-1]
            likeness = (before @ (own / np.linalg.norm(own))).max()
            scores.append((1 - options.penalty_alpha) * shares[token] - options.penalty_alpha * likeness)
        answer.append(candidates[int(np.argmax(scores))])
    return answer
