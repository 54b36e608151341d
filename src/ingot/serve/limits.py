"""What the server allows: how much may wait, how large a request may be, how long things may take."""

from __future__ import annotations

from ingot.core.options import Options, option


class LimitOptions(Options):
    """Limits of `ingot serve`."""

    queue: int = option(32, "sequences that may wait for a slot; more are answered with 429", plain=True, ge=0)
    queue_tokens: int = option(
        1 << 20, "tokens that running and waiting requests may come to, estimated; more get 429", plain=True, ge=1
    )
    queue_timeout: float = option(120.0, "seconds a request may wait for its first slot", plain=True, gt=0)
    request_timeout: float = option(600.0, "seconds a request may take, waiting included", plain=True, gt=0)
    max_body: int = option(8_000_000, "largest request body, bytes", plain=True, ge=1024)
    drain_seconds: float = option(
        30.0, "after SIGTERM or Ctrl-C, seconds that running requests may still take", plain=True, ge=0
    )
