"""What decoder.h declares, for ctypes: a decoder's description, one step of it, and the calls."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int32, c_size_t


def _fields(kind: type, names: str) -> tuple[tuple[str, type], ...]:
    return tuple((name, kind) for name in names.split())


class LayerSpec(ctypes.Structure):
    _fields_ = (
        ("qkv", c_size_t * 3),
        ("out", c_size_t),
        ("gate_up", c_size_t * 2),
        *_fields(c_size_t, "down before_attention after_attention before_mlp after_mlp q_norm k_norm"),
        *_fields(c_int32, "rope window"),
    )


class DecoderSpec(ctypes.Structure):
    _fields_ = (
        *_fields(c_size_t, "layers embedding final_norm head pool"),
        *_fields(c_int32, "num_layers hidden inner heads kv_heads head_dim activation query_norm kv stored tiles"),
        *_fields(c_float, "eps scale softcap logit_softcap embedding_scale"),
    )


class Angles(ctypes.Structure):
    _fields_ = (*_fields(c_size_t, "cos sin"), *_fields(c_int32, "half by_row"))


class Step(ctypes.Structure):
    _fields_ = (
        *_fields(c_size_t, "ids counts positions offsets wanted tables angles"),
        *_fields(c_int32, "sequences threads layers"),
    )


class NativeDecoder:
    """A decoder inside the library. What `spec` points to has to outlive it."""

    def __init__(self, library: ctypes.CDLL, spec: DecoderSpec) -> None:
        pointer, number = ctypes.c_void_p, ctypes.c_int
        library.ingot_decoder.restype, library.ingot_decoder.argtypes = pointer, (pointer,)
        library.ingot_forget.restype, library.ingot_forget.argtypes = None, (pointer,)
        library.ingot_step.argtypes = (pointer, pointer, pointer)
        library.ingot_room.restype, library.ingot_room.argtypes = c_size_t, (pointer, pointer)
        library.ingot_head.argtypes = (pointer, pointer, number, number, pointer)
        self._library, self._address = library, library.ingot_decoder(ctypes.byref(spec))
        if not self._address:
            raise MemoryError

    def __del__(self) -> None:
        self._library.ingot_forget(self._address)

    def step(self, step: Step, hidden: int) -> None:
        """Run a step; hidden states go to an address."""
        if not self._library.ingot_step(self._address, ctypes.byref(step), hidden):
            raise MemoryError

    def room(self, step: Step) -> int:
        """Bytes that it works in once such a step was run."""
        found: int = self._library.ingot_room(self._address, ctypes.byref(step))
        if not found:
            raise MemoryError
        return found

    def head(self, hidden: int, rows: int, threads: int, logits: int) -> None:
        """Logits of hidden states, from address to address."""
        if not self._library.ingot_head(self._address, hidden, rows, threads, logits):
            raise MemoryError
