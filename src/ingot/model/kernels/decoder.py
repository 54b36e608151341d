"""What `decoder.h` declares, for ctypes: a decoder's description, and one step of it."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_void_p
from typing import ClassVar

Fields = list[tuple[str, type]]


def _fields(kind: type, names: str) -> Fields:
    return [(name, kind) for name in names.split()]


class LayerSpec(Structure):
    _fields_: ClassVar[Fields] = [  # type: ignore[misc]
        ("qkv", c_void_p * 3),
        ("out", c_void_p),
        ("gate_up", c_void_p * 2),
        *_fields(c_void_p, "down before_attention after_attention before_mlp after_mlp q_norm k_norm"),
        *_fields(c_int32, "rope window"),
    ]


class DecoderSpec(Structure):
    _fields_: ClassVar[Fields] = [  # type: ignore[misc]
        *_fields(c_void_p, "layers embedding final_norm head pool"),
        *_fields(c_int32, "num_layers hidden inner heads kv_heads head_dim activation query_norm kv stored"),
        *_fields(c_float, "eps scale softcap logit_softcap embedding_scale"),
    ]


class Angles(Structure):
    _fields_: ClassVar[Fields] = [*_fields(c_void_p, "cos sin"), *_fields(c_int32, "half by_row")]  # type: ignore[misc]


class Step(Structure):
    _fields_: ClassVar[Fields] = [  # type: ignore[misc]
        *_fields(c_void_p, "ids counts positions offsets wanted tables angles"),
        *_fields(c_int32, "sequences threads"),
    ]
