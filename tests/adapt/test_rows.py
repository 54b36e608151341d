"""Several adapters around one model: together, and each on its own rows of a batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapting import write
from peft_pairs import IDS

from cases import first_fast
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.infer.engine import Engine, generate
from ingot.infer.sampling import Sampling
from tiny import BERT, LLAMA, MIXTRAL, QWEN2, write_model

FOUR = IDS.repeat(2, 1)
METHODS = ["lora", "dora", "ia3", "prefix", "prompt"]


@pytest.mark.parametrize("first", METHODS)
@first_fast("second", METHODS)
def test_each_row_by_its_own_adapter(first: str, second: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", QWEN2)
    a, b = write(tmp_path / "a", base, first, 1), write(tmp_path / "b", base, second, 2)
    model = load(f"{base}+{a}+{b}")
    with model.active.rows(["a", None, "b", "a"]):
        mixed = model.logits(FOUR)
    expected = {"a": load(f"{base}+{a}"), "b": load(f"{base}+{b}"), None: load(base)}
    for number, name in enumerate(["a", None, "b", "a"]):
        alone = expected[name].logits(FOUR[number : number + 1])[0]
        assert (mixed[number] - alone).abs().max() <= 2e-5, (number, name)
    assert (mixed[0] - mixed[1]).abs().max() > 1e-2


def test_rows_may_have_several(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", QWEN2)
    a, b, c = (write(tmp_path / name, base, kind, seed) for name, kind, seed in
               (("a", "lora", 1), ("b", "dora", 2), ("c", "prompt", 3)))  # fmt: skip
    model = load(f"{base}+{a}+{b}+{c}")
    with model.active.rows([("a", "b"), ("a", "c")]):
        mixed = model.logits(IDS)
    for number, parts in enumerate((f"+{a}+{b}", f"+{a}+{c}")):
        alone = load(f"{base}{parts}").logits(IDS[number : number + 1])[0]
        assert (mixed[number] - alone).abs().max() <= 2e-5


def test_encoders_have_prompts_by_row(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", BERT)
    a, b = write(tmp_path / "a", base, "prompt", 1), write(tmp_path / "b", base, "lora", 2)
    model = load(f"{base}+{a}+{b}")
    with model.active.rows(["a", "b"]):
        mixed = model.logits(IDS)
    assert (mixed[0] - load(f"{base}+{a}").logits(IDS[:1])[0]).abs().max() <= 2e-5
    assert (mixed[1] - load(f"{base}+{b}").logits(IDS[1:])[0]).abs().max() <= 2e-5


def test_a_choice_ends_with_its_block(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", QWEN2)
    a = write(tmp_path / "a", base)
    model = load(f"{base}+{a}")
    all_on = model.logits(IDS)
    with model.active.rows([None, None]):
        assert torch.equal(model.logits(IDS), load(base).logits(IDS))
    with pytest.raises(IngotError), model.active.rows(["a", None]), model.active.rows(["b", None]):
        pass
    assert torch.equal(model.logits(IDS), all_on)


def test_adapters_together_are_sums(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", QWEN2)
    a, b = write(tmp_path / "a", base, "lora", 1), write(tmp_path / "b", base, "lora", 2)
    assert torch.allclose(load(f"{base}+{a}+{b}").logits(IDS), load(f"{base}+{b}+{a}").logits(IDS), atol=1e-5)
    assert generate(load(f"{base}+{a}+{b}"), [[5, 6]], [Sampling(temperature=0, max_tokens=4)])[0].tokens


def test_what_cannot_be_chosen_is_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", QWEN2)
    model = load(f"{base}+{write(tmp_path / 'polite', base)}")
    with pytest.raises(IngotError, match="nearest: polite") as caught, model.active.rows(["polit"]):
        pass
    assert caught.value.code == "unknown-adapter"
    experts = write_model(tmp_path / "experts", MIXTRAL)
    model = load(f"{experts}+{write(tmp_path / 'e', experts)}")
    with pytest.raises(IngotError, match=r"experts") as caught, model.active.rows(["e", None]):
        pass
    assert caught.value.code == "adapter-rows"
    with model.active.rows(["e", "e"]):
        assert torch.isfinite(model.logits(IDS)).all()


def test_two_fronts_on_one_text_are_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    a, b = write(tmp_path / "a", base, "prefix", 1), write(tmp_path / "b", base, "prompt", 2)
    model = load(f"{base}+{a}+{b}")
    with pytest.raises(IngotError) as caught:
        model.logits(IDS)
    assert caught.value.code == "adapters-in-front"
    with pytest.raises(IngotError) as caught:
        load(f"{base}+{a}+{a}")
    assert caught.value.code == "adapter-twice"


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "prompt"])
def test_requests_choose_their_adapters_in_one_batch(method: str, tmp_path: Path) -> None:
    """The same prompt by each adapter, by none and by both, twice: what one of them left in the cache is no other's."""
    base = write_model(tmp_path / "base", QWEN2)
    a, b = write(tmp_path / "a", base, method, 1), write(tmp_path / "b", base, "lora", 2)
    engine = Engine(load(f"{base}+{a}+{b}"), num_slots=8)
    own, prompt = Sampling(temperature=0, max_tokens=8, ignore_eos=True), list(range(4, 44))
    parts = ["", f"+{a}", f"+{b}", f"+{a}+{b}"]
    wanted = [generate(load(f"{base}{part}"), [prompt], own)[0].tokens for part in parts]
    choices: list[list[str] | None] = [[], ["a"], ["b"], None]
    for _ in range(2):
        found = [engine.submit(prompt, own, adapters=choice) for choice in choices]
        while engine.has_work:
            engine.step()
        assert [each.tokens for each in found] == wanted
    assert engine.counters.hit == (0 if method == "prompt" else 4 * 32)
    with pytest.raises(IngotError) as error:
        engine.submit(prompt, own, adapters=["c"])
    assert error.value.code == "unknown-adapter"
