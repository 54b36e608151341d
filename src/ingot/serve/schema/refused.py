"""Fields of OpenAI's, vLLM's and Anthropic's interfaces that this server has no honest meaning for.

Each stands with the values that ask for what happens anyway and may therefore be sent; null always may. Fields that one
route takes and another does not are refused on the other by the same list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingot.serve.errors import refuse

REFUSED: dict[str, tuple[Any, ...]] = {
    "add_special_tokens": (False,),
    "audio": (),
    "background": (False,),
    "best_of": (1,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "function_call": ("none",),
    "functions": ([],),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "include_reasoning": (True,),
    "include_stop_str_in_output": (False,),
    "kv_transfer_params": (),
    "length_penalty": (1.0,),
    "logits_processors": (),
    "metadata": ({},),
    "mm_processor_kwargs": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (),
    "prediction": (),
    "priority": (0,),
    "prompt_cache_key": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "prompt_logprobs": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "safety_identifier": (),
    "service_tier": ("auto", "default"),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none",),
    "tools": ([],),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "verbosity": (),
    "web_search_options": (),
}
"""Field of OpenAI's routes and vLLM's -> the values that ask for what happens anyway."""

MESSAGES_REFUSED: dict[str, tuple[Any, ...]] = {
    "cache_control": ({"type": "ephemeral"}, {"type": "ephemeral", "ttl": "5m"}),
    "container": (),
    "context_management": ({}, {"edits": []}),
    "diagnostics": (),
    "inference_geo": (),
    "mcp_servers": ([],),
    "output_config": ({},),
    "output_format": (),
    "service_tier": ("auto", "standard_only"),
    "speed": ("standard",),
    "thinking": ({"type": "disabled"},),
    "user_profile_id": (),
    "workspace_id": (),
}
"""The same of Anthropic's. Prefixes of prompts are cached whether or not `cache_control` asks for it."""


def without_refused(
    content: dict[str, Any], known: frozenset[str], refused: Mapping[str, tuple[Any, ...]]
) -> dict[str, Any]:
    """The body without what asks for nothing; `known`: fields that the route has itself. Raises ApiError."""
    for name in sorted(content.keys() & refused.keys() - known):
        harmless = (None, *refused[name])
        if not any(type(content[name]) is type(value) and content[name] == value for value in harmless):
            raise refuse("http-unsupported-field", param=name)
    return {name: value for name, value in content.items() if name in known or name not in refused}
