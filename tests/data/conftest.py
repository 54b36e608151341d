"""What the tests of data share."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What is said and warned of, also when a test before has turned the command line's own output on."""
    monkeypatch.setattr(logging.getLogger("ingot"), "propagate", True)
    caplog.set_level(logging.INFO, logger="ingot")
    return caplog
