"""Sampling again, one request at a time in float64 numpy, written from the definitions and nothing shared.

What a request remembers of its tokens (repeats, forbidden texts, Mirostat's bound) is worked out anew from the whole
history each time.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ingot.infer.sampling import Sampling

Floats = NDArray[np.float64]


def distribution(
    logits: Floats,
    own: Sampling,
    prompt: list[int],
    answer: list[int],
    eos: set[int],
    *,
    bias: Mapping[int, float] | None = None,
    repeats: Mapping[int, float] | None = None,
    forbidden: Iterable[int] = (),
    mu: float = np.inf,
    xtc: bool | None = None,
) -> Floats:
    """Probability of each token to be the next one. `xtc`: whether XTC acts; None: with its probability."""
    if xtc is None and own.xtc_probability:
        given = {"bias": bias, "repeats": repeats, "forbidden": list(forbidden), "mu": mu}
        acting, idle = (distribution(logits, own, prompt, answer, eos, **given, xtc=acts) for acts in (True, False))
        return own.xtc_probability * acting + (1 - own.xtc_probability) * idle
    x = penalized(logits.astype(np.float64), own, prompt, answer)
    for token, value in [*(repeats or {}).items()]:
        x[token] -= value
    for token, value in (own.logit_bias if bias is None else bias).items():
        x[token] += value
    if own.allowed_token_ids is not None:
        x[[token for token in range(len(x)) if token not in own.allowed_token_ids]] = -np.inf
    x[list(forbidden)] = -np.inf
    if len(answer) < own.min_tokens:
        x[list(eos)] = -np.inf
    x = x / temperature(x, own)
    kept = truncated(x, own, mu, bool(own.xtc_probability and xtc))
    return np.eye(len(x))[min(kept, key=lambda token: (-x[token], token))] if own.temperature == 0 else softmax(x, kept)


def penalized(x: Floats, own: Sampling, prompt: list[int], answer: list[int]) -> Floats:
    """After the repetition, presence and frequency penalties."""
    x = x.copy()
    history = [(token, False) for token in prompt] + [(token, True) for token in answer]
    history = history if own.penalty_last_n is None else history[-own.penalty_last_n :]
    counted = [token for token, is_answer in history if is_answer]
    for token in {token for token, _ in history}:
        x[token] = x[token] / own.repetition_penalty if x[token] > 0 else x[token] * own.repetition_penalty
    for token in set(counted):
        x[token] -= own.presence_penalty + own.frequency_penalty * counted.count(token)
    return x


def temperature(x: Floats, own: Sampling) -> float:
    """What logits are divided by; 1 where the largest is taken in the end anyway."""
    if not own.dynatemp_range:
        return own.temperature or 1.0
    possible = [token for token in range(len(x)) if x[token] > -np.inf]
    unsure = entropy(softmax(x, possible)) / np.log(len(possible)) if len(possible) > 1 else 0.0
    low, high = max(0.0, own.temperature - own.dynatemp_range), own.temperature + own.dynatemp_range
    return max(low + (high - low) * unsure**own.dynatemp_exponent, 1e-6)


def truncated(x: Floats, own: Sampling, mu: float, xtc: bool) -> list[int]:
    """The tokens that may be drawn, most likely first."""
    kept = [token for token in order(x, range(len(x))) if x[token] > -np.inf]
    if own.top_n_sigma:
        floor = x[kept].max() - own.top_n_sigma * x[kept].std()
        kept = [token for token in kept if x[token] >= floor - 1e-9]
    kept = kept[: own.top_k or len(kept)]
    shares = softmax(x, kept)
    if own.typical_p < 1:
        expected = entropy(shares)
        kept = nucleus(sorted(kept, key=lambda t: (abs(-np.log(shares[t]) - expected), t)), shares, own.typical_p)
        kept = order(x, kept)
    kept = nucleus(kept, softmax(x, kept), own.top_p)
    shares = softmax(x, kept)
    kept = [token for token in kept if shares[token] >= own.min_p * shares.max()]
    shares = softmax(x, kept)
    likely = [token for token in kept if shares[token] >= own.xtc_threshold]
    if xtc and len(likely) > 1:
        stays = min(likely, key=lambda token: (x[token], token))
        kept = [token for token in kept if token not in likely or token == stays]
    shares = softmax(x, kept)
    bits = {token: -np.log2(shares[token]) for token in kept}
    return [token for token in kept if bits[token] <= mu or bits[token] == min(bits.values())]


def order(x: Floats, tokens: Iterable[int]) -> list[int]:
    return sorted(tokens, key=lambda token: (-x[token], token))


def nucleus(kept: list[int], shares: Floats, top_p: float) -> list[int]:
    """The shortest beginning of `kept` whose probability reaches top_p."""
    total = 0.0
    for count, token in enumerate(kept, start=1):
        total += shares[token]
        if total >= top_p:
            return kept[:count]
    return kept


def entropy(shares: Floats) -> float:
    found = shares[shares > 0]
    return float(-(found * np.log(found)).sum())


def softmax(x: Floats, kept: Sequence[int]) -> Floats:
    shares = np.zeros(len(x))
    shares[list(kept)] = np.exp(x[list(kept)] - x[list(kept)].max())
    return shares / shares.sum()


def repeats(own: Sampling, tokens: list[int], written: Sequence[bytes]) -> dict[int, float]:
    """DRY: what each token loses. For every earlier place, the end of the text is compared with it token by token; it
    ends at the window's edge and at the last token in which a breaker ends."""
    if not own.dry_multiplier:
        return {}
    begin = max(0, len(tokens) - (own.dry_penalty_last_n or len(tokens)))
    breakers = [text.encode() for text in own.dry_sequence_breakers]
    is_break = [breaks(tokens, place, written, breakers) for place in range(len(tokens))]
    longest: dict[int, int] = {}
    for end in range(begin, len(tokens) - 1):
        size = 0
        while end - size >= begin and tokens[end - size] == tokens[-1 - size] and not is_break[-1 - size]:
            size += 1
        if size >= own.dry_allowed_length:
            longest[tokens[end + 1]] = max(longest.get(tokens[end + 1], 0), size)
    return {
        token: own.dry_multiplier * own.dry_base ** (size - own.dry_allowed_length)
        for token, size in longest.items()
        if not any(breaker in written[token] for breaker in breakers)
    }


def breaks(tokens: list[int], place: int, written: Sequence[bytes], breakers: list[bytes]) -> bool:
    """Does a breaker end within this token?"""
    before = b"".join(written[token] for token in tokens[:place])
    after = before + written[tokens[place]]
    return any(after.count(b, max(0, len(before) - len(b) + 1)) for b in breakers)


def completing(texts: Iterable[str], answer: list[int], written: Sequence[bytes]) -> set[int]:
    """Tokens behind which the answer would hold one more of the texts than before."""
    before = b"".join(written[token] for token in answer)
    wanted = [text.encode() for text in texts]
    longest = max((len(text) for text in wanted), default=0)
    tail = before[len(before) - longest + 1 :] if longest > 1 else b""
    return {
        token
        for token, own in enumerate(written)
        for text in wanted
        if (tail + own).find(text, max(0, len(tail) - len(text) + 1)) >= 0
    }
