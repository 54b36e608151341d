"""What forgetting is measured on."""

from __future__ import annotations

from ingot.core.options import Options, option

WORLD, OFF = "world", "off"


class ForgettingOptions(Options):
    """What forgetting is measured on."""

    general: str = option(
        WORLD,
        "text that tuning should not make worse: world (made here), a file or folder of yours, or off",
        plain=True,
    )
