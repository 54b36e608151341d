"""A model on the terminal: its text as it comes, unable to command the terminal, and stopped by Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from ingot.core.console import visible


def write(text: str) -> None:
    """Show text at once."""
    sys.stdout.write(visible(text))
    sys.stdout.flush()


class CtrlC:
    """Ctrl-C while this is entered: an interruption at the prompt, only noted while a turn is worked on.

    So it can come at any moment, also before the first token, without a turn being half done. Pressed a second time
    during a turn it interrupts.
    """

    def __init__(self) -> None:
        self.at_prompt = False
        self.pressed = False
        self._before: Any = signal.SIG_DFL

    def begin_turn(self) -> None:
        self.at_prompt = self.pressed = False

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    def _note(self, *_: object) -> None:
        if self.at_prompt or self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
