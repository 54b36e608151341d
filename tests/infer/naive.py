"""Generation again, obviously right: the whole text through the model for every token, drawn from the definitions."""

from collections.abc import Callable

import numpy as np
from reference_sampling import completing, distribution, repeats

from ingot.adapt.load import LanguageModel
from ingot.infer.sampling import Sampling, uniform
from ingot.infer.uniform import XTC
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.text.stream import byte_alphabet


def naive_generate(
    model: LanguageModel,
    prompt: list[int],
    sampling: Sampling,
    seed: int,
    prefix: int | None = None,
    steered: Callable[[list[int]], np.ndarray] | None = None,
) -> list[int]:
    """Token ids, an end token included; stop strings are not looked at. `prefix`: how much of the prompt an encoder, or
    a decoder that can, reads in both directions; None: all. `steered`: the logits behind an answer, where they are not
    the model's own."""
    split = len(prompt) if prefix is None else prefix
    has_source, both_ways = isinstance(model.network, EncoderDecoder), model.config.prefix_lm
    read = [model.start_id, *prompt[split:]] if has_source else prompt
    answer: list[int] = []
    written = written_by(model) if sampling.bad_words or sampling.dry_multiplier else [b""] * model.config.vocab_size
    ends = set(model.eos_ids) | set(sampling.stop_token_ids)
    mu = 2 * sampling.mirostat_tau
    room = model.max_length - len(read)
    limit = min(room, sampling.max_tokens or room)
    while len(answer) < limit:
        if steered is None:
            source = [prompt[:split]] if has_source else None
            found = model.logits([[*read, *answer]], source, split if both_ways else 0)[0, -1].double().numpy()
        else:
            found = steered(answer)
        logits = constrained(model, found, sampling, len(read), len(answer), limit)
        remembered = {
            "repeats": repeats(sampling, read + answer, written),
            "forbidden": completing(sampling.bad_words, answer, written),
            "mu": mu if sampling.mirostat else np.inf,
            "xtc": uniform(seed, len(answer), XTC) < sampling.xtc_probability,
        }
        shares = distribution(logits, sampling, read, answer, ends, **remembered)
        answer.append(int(np.searchsorted(np.cumsum(shares), uniform(seed, len(answer)) * shares.sum(), side="right")))
        mu -= sampling.mirostat_eta * (-np.log2(shares[answer[-1]]) - sampling.mirostat_tau)
        if answer[-1] in sampling.stop_token_ids or (answer[-1] in model.eos_ids and not sampling.ignore_eos):
            break
    return answer


def written_by(model: LanguageModel) -> list[bytes]:
    """What each token of a byte-level model writes; ids beyond the tokenizer's write nothing."""
    alphabet, specials = byte_alphabet(), model.tokenizer.special_ids
    known = ["" if id in specials else model.tokenizer.token(id) or "" for id in range(model.config.vocab_size)]
    return [bytes(alphabet[character] for character in token) for token in known]


def constrained(
    model: LanguageModel, logits: np.ndarray, sampling: Sampling, num_read: int, at: int, limit: int
) -> np.ndarray:
    """What generation_config.json wants, done to the logits before anything else."""
    own = model.generation
    logits[list(own.banned_ids)] = -np.inf
    may_end = at >= sampling.min_tokens and not sampling.ignore_eos
    forced = own.forced_last if at == limit - 1 and may_end else None
    forced = own.forced_first if forced is None and at == 0 and num_read == 1 else forced
    return logits if forced is None else np.where(np.arange(len(logits)) == forced, 0.0, -np.inf)


def naive_text(model: LanguageModel, prompt: list[int], tokens: list[int], stops: list[str]) -> str:
    """What the tokens say behind the prompt, up to the stop string that is complete first. Sentinels are text where a
    model reads in both directions."""
    tokenizer = model.tokenizer
    both_ways = isinstance(model.network, EncoderDecoder) or model.config.prefix_lm
    gaps = {id for id in tokenizer.special_ids if (tokenizer.token(id) or "").startswith("<extra_id_")}
    dropped = tokenizer.special_ids - (gaps if both_ways else set())
    before, whole = ([token for token in ids if token not in dropped] for ids in (prompt, prompt + tokens))
    text = tokenizer.decode(whole, skip_special=False)[len(tokenizer.decode(before, skip_special=False)) :]
    for end in range(1, len(text) + 1):
        begins = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if begins:
            return text[: min(begins)]
    return text
