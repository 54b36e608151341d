"""Rotary positions (Su et al. 2021) in Hugging Face's half-split layout with every usual scaling; ALiBi's slopes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ingot.model.config import Rope

Angles = tuple[Tensor, Tensor]
"""cos and sin, each (B, 1, T, rotated width / 2)."""


class Rotary(nn.Module):
    """Angles of one Rope. Its buffers are computed from the config, never stored with the weights."""

    inverse_f: Tensor
    long_f: Tensor

    def __init__(self, rope: Rope, head_dim: int) -> None:
        super().__init__()
        self.rope, self.width = rope, int(head_dim * rope.share)
        self.register_buffer("inverse_f", None, persistent=False)
        self.register_buffer("long_f", None, persistent=False)
        self.reset()

    def reset(self) -> None:
        """Compute the buffers; called again once weights replace a model made on the meta device.

        There they get a shape alone: counting on it has torch import sympy, which takes longer than a small model.
        """
        shape = torch.empty(len(range(0, self.width, 2)))
        if shape.is_meta:
            self.inverse_f = shape
            if self.rope.scaling == "longrope":
                self.long_f = shape
            return
        self.inverse_f = inverse_frequencies(self.rope, self.width)
        if self.rope.scaling == "longrope":
            self.long_f = _divided(plain_frequencies(self.rope.theta, self.width), self.rope.long_factors)

    def forward(self, positions_BT: Tensor, lengths_BT: Tensor | None, dtype: torch.dtype) -> Angles:
        """cos and sin, computed in float32. `lengths_BT`: how long each token's whole text is, where that matters."""
        inverse = self.inverse_f
        if self.rope.depends_on_length:
            assert lengths_BT is not None
            inverse = self._by_length(lengths_BT)[:, None]
        angle_B1Tf = positions_BT[:, None, :, None].float() * inverse
        return (angle_B1Tf.cos() * self.rope.amplitude).to(dtype), (angle_B1Tf.sin() * self.rope.amplitude).to(dtype)

    def _by_length(self, lengths_BT: Tensor) -> Tensor:
        """Inverse frequencies of each token, (B, T, f)."""
        long_BT1 = (lengths_BT > self.rope.original_length)[..., None]
        if self.rope.scaling == "longrope":
            return torch.where(long_BT1, self.long_f, self.inverse_f)
        ratio_BT1 = lengths_BT.clamp(min=self.rope.original_length)[..., None] / self.rope.original_length
        growth_BT1 = (self.rope.factor * ratio_BT1 - (self.rope.factor - 1)) ** (self.width / (self.width - 2))
        return 1.0 / ((self.rope.theta * growth_BT1) ** _exponents(self.width).to(lengths_BT.device))


def _exponents(width: int) -> Tensor:
    return torch.arange(0, width, 2, dtype=torch.int64).float() / width


def plain_frequencies(theta: float, width: int) -> Tensor:
    """Radians a position, float32 (width/2,)."""
    return 1.0 / (theta ** _exponents(width))


def inverse_frequencies(rope: Rope, width: int) -> Tensor:
    """Radians a position, float32 (width/2,), scaled as the config says (for texts no longer than the original)."""
    frequency = plain_frequencies(rope.theta, width)
    if rope.scaling == "linear":  # Chen et al. 2023
        return frequency / rope.factor
    if rope.scaling == "llama3":
        return _llama3(frequency, rope)
    if rope.scaling == "yarn":
        return _yarn(frequency, rope, width)
    if rope.scaling == "longrope":
        return _divided(frequency, rope.short_factors)
    return frequency


def _divided(frequency: Tensor, factors: tuple[float, ...]) -> Tensor:
    return frequency / torch.tensor(factors)


def _llama3(frequency: Tensor, rope: Rope) -> Tensor:
    """Long wavelengths divided by the factor, short ones kept, a ramp between (Grattafiori et al. 2024)."""
    wavelength = 2 * math.pi / frequency
    longest = rope.original_length / rope.low_freq_factor
    shortest = rope.original_length / rope.high_freq_factor
    ramp = (rope.original_length / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    between = (1 - ramp) * frequency / rope.factor + ramp * frequency
    scaled = torch.where(wavelength > longest, frequency / rope.factor, between)
    return torch.where(wavelength < shortest, frequency, scaled)


def _yarn(frequency: Tensor, rope: Rope, width: int) -> Tensor:
    """Dimensions that turn often within the original length are kept, slow ones divided by the factor, a ramp between
    (Peng et al. 2023, arXiv 2309.00071, section 3.2)."""

    def dimension(turns: float) -> float:
        return width * math.log(rope.original_length / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    high += 0.001 if low == high else 0
    divided_f = ((torch.arange(width // 2).float() - low) / (high - low)).clamp(0, 1)
    return frequency / rope.factor * divided_f + frequency * (1 - divided_f)


def rotate(x_BHTD: Tensor, angles: Angles) -> Tensor:
    """Rotate pairs (i, i + width/2) of the first `width` numbers of a head by their angles; the rest stays."""
    cos_B1Tf, sin_B1Tf = angles
    half = cos_B1Tf.shape[-1]
    first, second = x_BHTD[..., :half], x_BHTD[..., half : 2 * half]
    rotated = (first * cos_B1Tf - second * sin_B1Tf, second * cos_B1Tf + first * sin_B1Tf)
    return torch.cat((*rotated, x_BHTD[..., 2 * half :]) if 2 * half < x_BHTD.shape[-1] else rotated, -1)


def alibi_slopes(num_heads: int) -> Tensor:
    """How fast attention falls with distance, a head, float32 (H,) (Press et al. 2021, arXiv 2108.12409)."""
    whole = 2 ** math.floor(math.log2(num_heads))
    slopes = [2.0 ** (-8.0 * (head + 1) / whole) for head in range(whole)]
    slopes += [2.0 ** (-4.0 * (2 * head + 1) / whole) for head in range(num_heads - whole)]
    return torch.tensor(slopes)
