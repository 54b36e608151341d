"""JSON schemas of what the server answers with, for its OpenAPI document and the tests that hold answers against it."""

from __future__ import annotations

from typing import Any


def _object(**fields: Any) -> dict[str, Any]:
    """An object with exactly these fields; a name that ends with _ may be missing."""
    required = [name for name in fields if not name.endswith("_")]
    properties = {name.rstrip("_"): schema for name, schema in fields.items()}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


TEXT, NUMBER, WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
_IDENTITY = {"id": TEXT, "created": WHOLE, "model": TEXT, "system_fingerprint": _or_null(TEXT)}
_USAGE = _object(
    prompt_tokens=WHOLE,
    completion_tokens=WHOLE,
    total_tokens=WHOLE,
    prompt_tokens_details=_object(cached_tokens=WHOLE),
)
_REASON = {"enum": ["stop", "length", "tool_calls", "content_filter"]}
_TOKEN = {"token": TEXT, "logprob": NUMBER, "bytes": _or_null(_list(WHOLE))}
_CHAT_LOGPROBS = _object(
    content=_list(_object(**_TOKEN, top_logprobs=_list(_object(**_TOKEN)))), refusal={"type": "null"}
)
_TEXT_LOGPROBS = _object(
    tokens=_list(TEXT),
    token_logprobs=_list(_or_null(NUMBER)),
    top_logprobs=_list(_or_null({"type": "object", "additionalProperties": NUMBER})),
    text_offset=_list(WHOLE),
)
_CALL = _object(id=TEXT, type={"const": "function"}, function=_object(name=TEXT, arguments=TEXT))
_MESSAGE = _object(
    role={"const": "assistant"}, content=_or_null(TEXT), refusal={"type": "null"}, tool_calls_=_list(_CALL)
)
_BLOCKS = (
    _object(type={"const": "text"}, text=TEXT),
    _object(type={"const": "tool_use"}, id=TEXT, name=TEXT, input={"type": "object"}),
)
_STOPPED = {"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]}
_ERROR_DETAILS = _object(error_code=_or_null(TEXT), param=_or_null(TEXT))
_MODEL = _object(id=TEXT, object={"const": "model"}, created=WHOLE, owned_by=TEXT, max_model_len=WHOLE)


def _answer(kind: str, **own: Any) -> dict[str, Any]:
    """What both of OpenAI's routes answer with; `own`: fields of a choice."""
    choice = _object(index=WHOLE, **own, finish_reason=_REASON, incomplete_={"const": True})
    return _object(**_IDENTITY, object={"const": kind}, choices=_list(choice), usage=_USAGE)


SCHEMAS: dict[str, Any] = {
    "Error": _object(error=_object(message=TEXT, type=TEXT, param=_or_null(TEXT), code=_or_null(TEXT))),
    "MessagesError": _object(type={"const": "error"}, error=_object(type=TEXT, message=TEXT, details=_ERROR_DETAILS)),
    "Message": _object(
        id=TEXT,
        type={"const": "message"},
        role={"const": "assistant"},
        model=TEXT,
        content=_list({"anyOf": [*_BLOCKS]}),
        stop_reason=_STOPPED,
        stop_sequence=_or_null(TEXT),
        usage=_object(input_tokens=WHOLE, output_tokens=WHOLE, cache_read_input_tokens=WHOLE),
    ),
    "TokenCount": _object(input_tokens=WHOLE),
    "ChatCompletion": _answer("chat.completion", message=_MESSAGE, logprobs=_or_null(_CHAT_LOGPROBS)),
    "Completion": _answer("text_completion", text=TEXT, logprobs=_or_null(_TEXT_LOGPROBS)),
    "Embeddings": _object(
        object={"const": "list"},
        model=TEXT,
        data=_list(_object(object={"const": "embedding"}, index=WHOLE, embedding={"anyOf": [_list(NUMBER), TEXT]})),
        usage=_object(prompt_tokens=WHOLE, total_tokens=WHOLE),
    ),
    "Tokens": _object(tokens=_list(WHOLE), count=WHOLE, max_model_len=WHOLE, token_strs_=_list(_or_null(TEXT))),
    "Prompt": _object(prompt=TEXT),
    "Models": _object(object={"const": "list"}, data=_list(_MODEL)),
    "Model": _MODEL,
    "Status": _object(status=TEXT),
}
