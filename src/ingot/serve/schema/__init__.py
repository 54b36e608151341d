"""What a request body may hold. Every field acts, or is refused by name; an unknown one with the nearest name."""

from ingot.serve.schema.chat import MESSAGE_REFUSED, ChatBody
from ingot.serve.schema.completion import CompletionBody
from ingot.serve.schema.generation import SamplingBody
from ingot.serve.schema.parse import parse
from ingot.serve.schema.refused import REFUSED
from ingot.serve.schema.texts import DetokenizeBody, EmbeddingBody, TemplateBody, TokenizeBody

__all__ = [
    "MESSAGE_REFUSED",
    "REFUSED",
    "ChatBody",
    "CompletionBody",
    "DetokenizeBody",
    "EmbeddingBody",
    "SamplingBody",
    "TemplateBody",
    "TokenizeBody",
    "parse",
]
