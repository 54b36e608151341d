"""The guard over the texts of one request, and what it did to them."""

from __future__ import annotations

from typing import Any

from ingot.guard.guard import Guard
from ingot.serve.errors import refuse

GUARD_HEADER = "x-ingot-guard"


class Checker:
    """Runs the guard over the texts of one request and remembers what it did."""

    def __init__(self, guard: Guard | None) -> None:
        self.guard = guard
        self.redacted: set[str] = set()
        self.logged: set[str] = set()

    def text(self, text: str, param: str) -> str:
        """The text the model may see. Raises ApiError when the policy blocks it."""
        if self.guard is None:
            return text
        verdict = self.guard.check(text)
        kinds = {
            action: {f.kind for f in verdict.findings if f.action == action} for action in ("block", "redact", "log")
        }
        if verdict.action == "block":
            raise refuse("http-blocked", param=param, kinds=", ".join(sorted(kinds["block"])))
        self.redacted |= kinds["redact"]
        self.logged |= kinds["log"]
        return verdict.text

    def value(self, value: Any, param: str) -> Any:
        """The same for every string inside a JSON value; keys stay."""
        if isinstance(value, str):
            return self.text(value, param)
        if isinstance(value, dict):
            return {key: self.value(item, param) for key, item in value.items()}
        return [self.value(item, param) for item in value] if isinstance(value, list) else value

    def headers(self) -> dict[str, str]:
        """What a client is told of it."""
        found = {"redacted": self.redacted, "logged": self.logged}
        value = "; ".join(f"{action}={','.join(sorted(kinds))}" for action, kinds in found.items() if kinds)
        return {GUARD_HEADER: value} if value else {}
