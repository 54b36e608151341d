"""What all tests share: where tiny.py lies, quiet progress, English messages, the real data if it is there."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ["INGOT_LANG"] = "en"
os.environ["INGOT_PROGRESS"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: a second thread only spins
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

# a busy machine is no mistake: hypothesis measures the clock by neither of its two ways
UNTIMED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("whole", **UNTIMED)
hypothesis.settings.register_profile("quick", max_examples=20, **UNTIMED)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "whole"))


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: the garbage collector need not look at it after every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Packed weights of tests stay out of the user's cache; compiled kernels are taken from there."""
    from ingot.core.cache import cache_directory

    kernels, path = cache_directory("kernels"), tmp_path_factory.mktemp("cache")
    if kernels is not None:
        (path / "kernels").symlink_to(kernels.resolve())
    os.environ["INGOT_CACHE"] = str(path)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real corpora and weights; tests that need it are skipped without it."""
    for place in (os.environ.get("INGOT_DATA"), Path(__file__).parents[2] / "shared" / "data"):
        if place and Path(place).is_dir():
            return Path(place)
    pytest.skip("no real data: set INGOT_DATA to its folder")
