"""Adapters written here give our logits in PEFT: every method on every shape that PEFT can put it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from adapting import write
from peft_pairs import difference, transformers_model

from ingot.adapt.lora import LoRA
from ingot.adapt.targets import Targets
from tiny import BERT, GPT2, LLAMA, PHI3, QWEN2, QWEN3, T5, write_model

pytestmark = pytest.mark.peers

SHAPES: dict[str, dict[str, Any]] = {
    "llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "gpt2": GPT2, "phi3": PHI3, "bert": BERT, "t5": T5,
}  # fmt: skip
METHODS = ["lora", "rslora", "dora", "ia3", "prefix", "prompt"]


def read(base: Path, adapter: Path) -> Any:
    """PEFT's model with an adapter of ours, which it must read without a warning (pytest makes one an error)."""
    from peft import PeftModel

    return PeftModel.from_pretrained(transformers_model(base), adapter).eval()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", METHODS)
def test_every_method(kind: str, name: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", SHAPES[name])
    write(tmp_path / "a", base, kind)
    assert difference(base, tmp_path / "a", read(base, tmp_path / "a")) <= 1e-5


def test_ranks_and_strengths_by_layer(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    chosen = LoRA(4, 8.0, 0.0, Targets(("q_proj", "down_proj"), layers=(1,)), True, {"down_proj": 2}, {"q_proj": 3.0})
    write(tmp_path / "a", base, chosen=chosen)
    assert difference(base, tmp_path / "a", read(base, tmp_path / "a")) <= 1e-5


@pytest.mark.parametrize("dora", [False, True])
def test_embedding_and_head(dora: bool, tmp_path: Path) -> None:
    from ingot.adapt.dora import DoRA

    base = write_model(tmp_path / "base", LLAMA)
    kind = DoRA if dora else LoRA
    write(tmp_path / "a", base, chosen=kind(4, 8.0, 0.0, Targets(("embed_tokens", "lm_head", "v_proj"))))
    assert difference(base, tmp_path / "a", read(base, tmp_path / "a")) <= 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", [QWEN2, GPT2], ids=["qwen2", "gpt2"])
@pytest.mark.parametrize("save", [(), ("head",)])
def test_a_tied_embedding(save: tuple[str, ...], config: dict[str, Any], tmp_path: Path) -> None:
    """PEFT warns of it, and leaves the head as it was, as we do."""
    from peft import PeftModel

    base = write_model(tmp_path / "base", config)
    name = "wte" if config is GPT2 else "embed_tokens"
    write(tmp_path / "a", base, chosen=LoRA(4, 8.0, 0.0, Targets((name,), save=tuple("lm_head" for _ in save))))
    peer = PeftModel.from_pretrained(transformers_model(base), tmp_path / "a").eval()
    assert difference(base, tmp_path / "a", peer) <= 1e-5


def test_modules_kept_whole(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    write(
        tmp_path / "a", base, chosen=LoRA(4, 8.0, 0.0, Targets(("q_proj",), save=("embed_tokens", "lm_head", "norm")))
    )
    assert difference(base, tmp_path / "a", read(base, tmp_path / "a")) <= 1e-5


@pytest.mark.parametrize(("first", "second"), [("lora", "lora"), ("dora", "dora"), ("ia3", "ia3"), ("lora", "dora")])
def test_two_adapters_act_as_in_peft(first: str, second: str, tmp_path: Path) -> None:
    from peft import PeftModel

    base = write_model(tmp_path / "base", QWEN2)
    write(tmp_path / "a", base, first, 1)
    write(tmp_path / "b", base, second, 2)
    peer = PeftModel.from_pretrained(transformers_model(base), tmp_path / "a", "a")
    peer.load_adapter(tmp_path / "b", "b")
    peer.base_model.set_adapter(["a", "b"])
    assert difference(base, Path(f"{tmp_path / 'a'}+{tmp_path / 'b'}"), peer.eval()) <= 1e-5
