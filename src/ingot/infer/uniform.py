"""Numbers in [0, 1) that depend on a request's seed and a token's position alone.

No generator, so no state: the token at a position is the same however the tokens before it came about (read again after
a pre-emption, drafted and verified, drawn in a batch of strangers).
"""

from __future__ import annotations

import hashlib

XTC = b"xtc"
"""Purpose of the number that decides whether XTC acts: another one than the number a token is drawn with."""


def uniform(seed: int, position: int, purpose: bytes = b"") -> float:
    """53 bits of BLAKE2b over seed and position; numbers of two purposes have nothing to do with each other."""
    key = seed.to_bytes(8, "little", signed=True) + position.to_bytes(8, "little")
    bits = int.from_bytes(hashlib.blake2b(key, digest_size=8, person=purpose).digest(), "little")
    return (bits >> 11) / (1 << 53)
