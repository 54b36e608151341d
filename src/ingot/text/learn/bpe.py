"""Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909), on bytes or on characters."""

from __future__ import annotations

from tokenizers import models

from ingot.text.learn.count import count_words
from ingot.text.learn.merges import Corpus, Learner, frequent_words
from ingot.text.learn.parts import (
    SPECIALS,
    UNKNOWN,
    Learnt,
    Texts,
    alphabet,
    check_bytes_fit,
    on_bytes,
    on_characters,
    with_specials,
)
from ingot.text.split import SPLIT
from ingot.text.stream import byte_alphabet


def byte_bpe(texts: Texts, vocab_size: int, threads: int) -> Learnt:
    """BPE on bytes, as GPT-2 and most models since: no text is lost."""
    check_bytes_fit(vocab_size)
    counts = count_words(texts, SPLIT, threads)
    characters = sorted(byte_alphabet())
    ids = {byte_alphabet()[character]: id for id, character in enumerate(characters, len(SPECIALS))}
    corpus = Corpus.of_bytes(frequent_words(counts.words), [ids[byte] for byte in range(256)])
    learner = Learner(corpus, [*SPECIALS, *characters])
    merges = learner.run(vocab_size)
    return Learnt(with_specials(on_bytes(models.BPE(learner.ids, merges))), counts.numbers)


def character_bpe(texts: Texts, vocab_size: int, threads: int) -> Learnt:
    """BPE on characters, with an unknown token for the rarest of them."""
    counts = count_words(texts, SPLIT, threads)
    known = [*SPECIALS, UNKNOWN, *alphabet(counts.words, vocab_size - len(SPECIALS) - 1)]
    ids = {token: id for id, token in enumerate(known)}
    words = [([ids.get(character, -1) for character in word], count) for word, count in frequent_words(counts.words)]
    learner = Learner(Corpus.of(words), known)
    merges = learner.run(vocab_size)
    made = on_characters(models.BPE(learner.ids, merges, unk_token=UNKNOWN))
    return Learnt(with_specials(made, [UNKNOWN]), counts.numbers, {"unk_token": UNKNOWN}, lossless=False)
