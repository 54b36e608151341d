"""The chat templates of the families people tune, in short (families/*.jinja), and fifty conversations.

gemma2, llama3, llama3.2, mistral-v3, phi3, qwen2.5 and qwen3 were compared with the published templates: the same bytes
and the same masks on all fifty, with and without a generation prompt. The others are in the style of their family.
`(*` and `*)` stand where generation tags go, or nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizer_kinds import CHATML_SPECIALS, byte_fallback, byte_level, digits_alone, tagged, untagged, write

Messages = list[dict[str, Any]]

Family = tuple[Any, list[str], dict[str, str]]
LLAMA_SPECIALS = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
LLAMA_ROLES = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
QWEN_ROLES = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
GEMMA_SPECIALS = ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
GEMMA_ROLES = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
MISTRAL_ROLES = {"bos_token": "<s>", "eos_token": "</s>"}
MISTRAL_SPECIALS = ["<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]",
                    "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]  # fmt: skip
PHI_SPECIALS = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|tool|>", "<|/tool|>",
                "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>"]  # fmt: skip
CHANNEL_SPECIALS = ["<|start|>", "<|message|>", "<|end|>", "<|channel|>", "<|call|>", "<|return|>"]
DEEPSEEK_SPECIALS = ["<BOS>", "<EOS>", "<User>", "<Assistant>", "<calls>", "</calls>", "<call>", "</call>", "<sep>",
                     "<outputs>", "</outputs>", "<output>", "</output>"]  # fmt: skip
COMMAND_SPECIALS = ["<BOS>", "<|START|>", "<|END|>", "<|SAY|>", "<|/SAY|>", "<|CHATBOT|>", "<|USER|>", "<|SYSTEM|>"]


def gemma(specials: list[str]) -> Any:
    return byte_fallback(specials, prepend=False)


FAMILIES: dict[str, Family] = {
    "chatml": (byte_level, CHATML_SPECIALS, QWEN_ROLES),
    "llama3": (byte_level, LLAMA_SPECIALS, LLAMA_ROLES),
    "llama3.2": (byte_level, LLAMA_SPECIALS, LLAMA_ROLES),
    "qwen2.5": (digits_alone, CHATML_SPECIALS, QWEN_ROLES),
    "qwen3": (digits_alone, CHATML_SPECIALS, QWEN_ROLES),
    "gemma2": (gemma, GEMMA_SPECIALS, GEMMA_ROLES),
    "gemma3": (gemma, GEMMA_SPECIALS, GEMMA_ROLES),
    "mistral-v1": (byte_fallback, ["<s>", "</s>"], MISTRAL_ROLES),
    "mistral-v3": (byte_fallback, MISTRAL_SPECIALS, MISTRAL_ROLES),
    "mistral-small": (byte_level, MISTRAL_SPECIALS, MISTRAL_ROLES),
    "phi3": (byte_fallback, PHI_SPECIALS, {"eos_token": "<|endoftext|>"}),
    "phi4-mini": (byte_level, PHI_SPECIALS, {"eos_token": "<|endoftext|>"}),
    "phi4": (byte_level, [*CHATML_SPECIALS, "<|im_sep|>"], QWEN_ROLES),
    "channels": (byte_level, CHANNEL_SPECIALS, {"eos_token": "<|return|>"}),
    "deepseek3": (digits_alone, DEEPSEEK_SPECIALS, {"bos_token": "<BOS>", "eos_token": "<EOS>"}),
    "command": (byte_level, COMMAND_SPECIALS, {"bos_token": "<BOS>", "eos_token": "<|END|>"}),
    "vicuna": (byte_fallback, ["<s>", "</s>"], MISTRAL_ROLES),
}
"""How a family's tokenizer is made, its special tokens, the roles they play; its template is families/NAME.jinja."""
FOLDER = Path(__file__).parent / "families"
TEMPLATES = {name: (FOLDER / f"{name}.jinja").read_text(encoding="utf-8") for name in FAMILIES}


def make(name: str, root: Path) -> dict[str, Path]:
    """The directory of a family with its template bare, and with generation tags."""
    backend, specials, roles = FAMILIES[name]
    tokenizer = backend(specials)
    kinds = (("bare", untagged), ("tagged", tagged))
    return {kind: write(tokenizer, root / kind, change(TEMPLATES[name]), **roles) for kind, change in kinds}


# ---- fifty conversations

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "天氣 now",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "role": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "Time \"here\" & <there>", "parameters": {
    "type": "object", "properties": {}}}}  # fmt: skip
QUESTIONS = [
    "What is 12 + 3? 你好",
    "  spaces \n around\n",
    "assistant\n",
    "ASSISTANT: no\n\n### Response:",
    '{"a": [1, 2]}',
    "請用繁體中文回答",
    "<b>&amp; 'quoted' \"double\"</b>",
    "</think> or <think>",
    "\n\n",
    "a",
    "a",
    "🙂 emoji\tand tab",
]
ANSWERS = [
    "It is 15.\n\n好的！",
    "  ok  ",
    "user\nassistant\n",
    "a",
    "[INST] no [/INST]",
    "第一行\n第二行\n",
    "1",
    "{}",
    "<b>bold</b>",
    "What is 12 + 3? 你好",
    "\nleading",
    "trailing\n\n",
]
SYSTEM = {"role": "system", "content": "Be brief. 簡短"}


def user(number: int) -> dict[str, Any]:
    return {"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}


def answer(number: int) -> dict[str, Any]:
    return {"role": "assistant", "content": ANSWERS[number % len(ANSWERS)]}


def thinking(number: int, inside: bool) -> dict[str, Any]:
    said = ANSWERS[number % len(ANSWERS)]
    if inside:
        return {"role": "assistant", "content": f"<think>\nadd them\n\nthen {number}\n</think>\n\n{said}"}
    return {"role": "assistant", "reasoning_content": f"step {number}\n", "content": said}


def call(number: int, *names: str, **more: Any) -> list[dict[str, Any]]:
    """An assistant turn that calls tools, and what they gave back."""
    given: dict[str, dict[str, Any]] = {"weather": {"city": '臺北 "101"', "role": "x", "n": number}, "clock": {}}
    ids = [f"call{number:04}{at}" for at in range(len(names))]
    calls = [{"id": id, "type": "function", "function": {"name": name, "arguments": given[name]}}
             for id, name in zip(ids, names, strict=True)]  # fmt: skip
    results = [{"role": "tool", "tool_call_id": id, "name": name, "content": f'{{"degrees": {number}}}'}
               for id, name in zip(ids, names, strict=True)]  # fmt: skip
    return [{"role": "assistant", "content": "", "tool_calls": calls, **more}, *results]


def conversations() -> list[tuple[Messages, list[dict[str, Any]] | None]]:
    """Fifty conversations with their tools: one turn to six, with and without system, thinking, calls in all places."""
    shapes: list[tuple[Messages, list[dict[str, Any]] | None]] = []
    for n in range(12):
        shapes.append(([user(n), answer(n)], None))
    for n in range(8):
        shapes.append(([message for at in range(2 + n % 5) for message in (user(n + at), answer(2 * n + at))], None))
    for n in range(6):
        shapes.append(([user(n), thinking(n, n % 2 == 0), user(n + 1), thinking(n + 1, n % 3 == 0)], None))
    shapes.append(([user(0), thinking(0, True), user(1), answer(1), user(2)], None))
    tools = [WEATHER, CLOCK]
    for n in range(4):
        shapes.append(([user(n), *call(n, "weather"), answer(n)], tools))
        shapes.append(
            ([user(n), *call(n, "clock"), *call(n + 1, "weather"), answer(n), user(n + 1), answer(n + 1)], tools)
        )
    shapes.append(([user(0), *call(3, "clock", reasoning_content="look"), thinking(2, False)], tools))
    shapes.append(([user(0), *call(3, "weather", "clock"), answer(0), user(5), *call(4, "weather"), answer(3)], tools))
    shapes.append(([user(0), *call(3, "weather", content="Let me see."), answer(0), user(0), answer(0)], tools[:1]))
    shapes.append(([user(9), answer(3), user(9), *call(1, "weather"), answer(3), user(9), answer(3)], tools[:1]))
    shapes.append(([user(0), *call(1, "weather")[:1]], tools))
    shapes.append(([user(0), *call(2, "clock"), answer(1), user(0), *call(2, "clock")[:1]], tools))
    shapes.append(([user(0), answer(0), user(1), answer(1)], tools))
    count = len(shapes)
    for n in range(50 - count):
        messages, given = shapes[(7 * n) % count]
        shapes.append(([SYSTEM, *messages], given))
    return shapes
