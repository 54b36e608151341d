"""One model on two processes writes what it writes on one, and a process that is killed is an error, soon."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mixed import MIXED, prompts, run

from ingot.adapt.load import LanguageModel, load
from ingot.core.errors import IngotError
from ingot.infer.engine import Engine, generate
from ingot.infer.memory import Memory
from ingot.infer.sampling import Sampling
from ingot.infer.speculation.options import Speculation
from ingot.model.decoder import Decoder
from tiny import CONFIGS, children, write_model

pytestmark = pytest.mark.slow

GREEDY = Sampling(temperature=0, max_tokens=20, ignore_eos=True)
LONG = Sampling(temperature=0, max_tokens=3000, ignore_eos=True)
PROMISED = 5.0
"""Seconds within which a killed process is an error."""


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path
) -> Iterator[tuple[LanguageModel, LanguageModel]]:
    """A model on one process and on two."""
    path = write_model(tmp_path_factory.mktemp("pair") / "m", CONFIGS[request.param], tokenizer=tokenizer_dir)
    split = load(path, "2xcpu")
    yield load(path), split
    assert split.ranks is not None
    split.ranks.close()


def test_logits_are_the_same(pair: tuple[LanguageModel, LanguageModel]) -> None:
    one, two = pair
    ids = torch.tensor(prompts([40, 40, 40]))
    difference = (one.logits(ids) - two.logits(ids)).abs().max()
    assert difference <= 1e-4
    assert torch.equal(two.logits(ids), two.logits(ids))


def test_all_that_a_pass_may_be_given_reaches_every_process(pair: tuple[LanguageModel, LanguageModel]) -> None:
    """Each argument alone. What a decoder's pass gains has to be added here."""
    ids = torch.tensor(prompts([12, 12]))
    order = torch.arange(12).expand(2, -1)
    cases = {"positions_BT": 2 * order, "segments_BT": order // 5, "prefix_BT": order < 7, "lengths_B": order[:, 9]}
    assert inspect.signature(Decoder.forward).parameters.keys() == {
        "self", "ids_BT", *cases, "rows", "layers", "taps"
    }  # fmt: skip
    with torch.inference_mode():
        plain = pair[0].decoder(ids)
        for given in [*({name: value} for name, value in cases.items()), {"layers": 1}, {"layers": 0}]:
            one, two = (model.decoder(ids, **given) for model in pair)
            assert (one - two).abs().max() <= 1e-4, given
            assert "lengths_B" in given or (one - plain).abs().max() > 1e-2, given


def test_greedy_tokens_are_the_same_alone_and_batched(pair: tuple[LanguageModel, LanguageModel]) -> None:
    one, two = pair
    wanted = [each.tokens for each in generate(one, prompts(), GREEDY)]
    assert [each.tokens for each in generate(two, prompts(), GREEDY)] == wanted
    assert [each.tokens for each in generate(two, prompts(), GREEDY, num_slots=3)] == wanted
    assert [generate(two, [prompt], GREEDY)[0].tokens for prompt in prompts()] == wanted


def test_everything_that_is_drawn_is_the_same(pair: tuple[LanguageModel, LanguageModel]) -> None:
    one, two = pair
    assert [each.tokens for each in generate(two, prompts(), MIXED)] == [
        each.tokens for each in generate(one, prompts(), MIXED)
    ]


@pytest.mark.parametrize("kv", ["bfloat16", "int8"])
def test_small_caches_in_any_numbers(pair: tuple[LanguageModel, LanguageModel], kv: str) -> None:
    one, two = pair
    wanted = [each.tokens for each in generate(one, prompts(), GREEDY, memory=Memory(kv=kv))]
    assert [each.tokens for each in generate(two, prompts(), GREEDY, memory=Memory(kv=kv))] == wanted


@pytest.mark.parametrize(
    "speculation", [Speculation(kind="lookup", always=True), Speculation(kind="self", layers=1, always=True)]
)
def test_guessing_changes_nothing(pair: tuple[LanguageModel, LanguageModel], speculation: Speculation) -> None:
    one, two = pair
    wanted = [each.tokens for each in generate(one, prompts(), GREEDY)]
    assert [each.tokens for each in generate(two, prompts(), GREEDY, speculation=speculation)] == wanted


def test_beginnings_are_shared_and_copied(pair: tuple[LanguageModel, LanguageModel]) -> None:
    one, two = pair
    shared = prompts([64])[0]
    asked = [shared, shared, [*shared, 9], shared[:50]]
    found = []
    for model in (one, two):
        engine = Engine(model, 2)
        sequences = [engine.submit(prompt, GREEDY) for prompt in asked]
        run(engine)
        found.append([sequence.tokens for sequence in sequences])
    assert found[0] == found[1]


@pytest.fixture
def long_dir(tmp_path: Path, tokenizer_dir: Path) -> Path:
    return write_model(tmp_path / "m", tokenizer=tokenizer_dir, max_position_embeddings=4096)


def test_a_killed_process_is_an_error(long_dir: Path) -> None:
    model = load(long_dir, "2xcpu")
    assert model.ranks is not None
    engine = Engine(model, 2)
    sequences = [engine.submit(prompt, LONG) for prompt in prompts([3, 5])]
    for _ in range(5):
        engine.step()
    model.ranks._processes[0].kill()
    began = time.monotonic()
    with pytest.raises(IngotError, match="signal 9") as caught:
        run(engine)
    assert time.monotonic() - began < PROMISED
    assert caught.value.code == "rank-lost"
    assert [sequence.finish_reason for sequence in sequences] == ["error", "error"]
    assert not engine.has_work
    for again in (lambda: model.logits([[1, 2]]), model.check, lambda: Engine(model, 1)):
        with pytest.raises(IngotError) as caught:
            again()
        assert caught.value.code == "rank-lost"


def test_the_verb_ends_when_a_process_is_killed(long_dir: Path) -> None:
    words = ["generate", str(long_dir), "--prompt", "the", "--place", "2xcpu", "--max-tokens", "3900",
             "--rare.ignore-eos", "--temperature", "0"]  # fmt: skip
    started = subprocess.Popen([sys.executable, "-m", "ingot", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert started.stdout is not None
    started.stdout.read(1)  # it writes
    (other,) = children(started.pid)
    os.kill(other, signal.SIGKILL)
    _, said = started.communicate(timeout=60)
    assert started.returncode not in (0, None)
    assert b"process 1 of the 2" in said
    assert b"Traceback" not in said


SLEEPER = """
import sys, time
from ingot.adapt.load import load
model = load(sys.argv[1], "2xcpu")
print("there", flush=True)
time.sleep(600)
"""


def test_the_others_end_with_the_first(long_dir: Path) -> None:
    started = subprocess.Popen([sys.executable, "-c", SLEEPER, str(long_dir)], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    assert started.stdout is not None
    started.stdout.readline()
    (other,) = children(started.pid)
    started.kill()
    started.communicate()
    end = time.monotonic() + 30
    while Path(f"/proc/{other}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{other}").exists()


def test_a_process_that_cannot_load_ends_the_start(long_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.model.ranks.lead.sys.executable", "/bin/false")
    with pytest.raises(IngotError, match="exit code 1") as caught:
        load(long_dir, "2xcpu")
    assert caught.value.code == "rank-lost"
