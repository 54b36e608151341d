"""PEFT's adapter files, read and written: `adapter_config.json` and `adapter_model.safetensors`.

What PEFT has no key for stands in hallmark.json: which base it was trained on, by digest, and whether that was held in
4 bits; which adapters lay below; that it taught the base to read prompts in both directions. A key that changes the
result and that we do not compute is refused by name, an unknown key too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.adapt.experts import peft_fuses, taken_apart
from ingot.adapt.lora import LoRA
from ingot.adapt.methods import READERS, Settings, put_on, tensor_names, tensors
from ingot.adapt.prefix import SEQ2SEQ, Prefix
from ingot.adapt.prompt import Prompt
from ingot.adapt.targets import HEADS
from ingot.core.errors import IngotError, fail, nearest
from ingot.core.files import tree_digest
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.progress import warn
from ingot.model.config import PREFIX_LM
from ingot.model.decoder import Decoder
from ingot.model.encoder import Encoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.families import FAMILIES
from ingot.model.network import Network
from ingot.model.nf4_linear import is_in_nf4
from ingot.model.transformer import Transformer
from ingot.model.weights import check_finite, read_tensor, spec_of, write_tensors

PREFIX = "base_model.model."
"""What PEFT puts before the name of every tensor that belongs to a layer."""

CONFIG = "adapter_config.json"

BASE_HELD = "base_held_in"
"""Key of the hallmark's numbers for how the base was held while the adapter was trained, where that changes it."""

KNOWN = {
    key
    for line in (
        "r lora_alpha lora_dropout target_modules exclude_modules layers_to_transform layers_pattern modules_to_save",
        "rank_pattern alpha_pattern use_rslora use_dora feedforward_modules num_virtual_tokens target_parameters",
        "peft_type auto_mapping base_model_name_or_path revision inference_mode peft_version fan_in_fan_out",
        "init_ia3_weights init_weights prompt_tuning_init prompt_tuning_init_text tokenizer_name_or_path",
        "tokenizer_kwargs token_dim num_attention_heads num_layers num_transformer_submodules encoder_hidden_size",
        "prefix_projection loftq_config eva_config corda_config lora_ga_config megatron_config megatron_core",
        "runtime_config qalora_group_size",
    )
    for key in line.split()
}
"""Keys that are read (the first two lines), and keys that change nothing once the tensors are there."""

ONLY: dict[str, tuple[Any, ...]] = {
    "task_type": (None, "CAUSAL_LM", SEQ2SEQ, "FEATURE_EXTRACTION"),
    "bias": ("none",),
    "init_lora_weights": (None, True, False, "gaussian", "eva", "orthogonal"),
}
"""Keys of which only these values are computed. Other initialisations change the base's weights."""

EMPTY: tuple[Any, ...] = (None, False, [], {}, "")
"""Values of any other key that switch off what it is about."""


def weights_digest(model: ModelDir) -> str:
    """Identity of a base for its adapters: its weights and config, whatever its tokenizer files became."""
    kept = {
        name: digest
        for name, digest in model.files.items()
        if name.endswith((".safetensors", ".index.json")) or name in ("config.json", CONFIG)
    }
    return tree_digest(kept)


def write_adapter(
    draft: Draft, network: nn.Module, adapter: str, settings: Settings, base: ModelDir, below: Sequence[ModelDir] = ()
) -> None:
    """Write an adapter that lies on `network` in PEFT's layout. Warns where PEFT reads something else from it."""
    is_plain = isinstance(settings, LoRA) and settings.name == "lora" and not settings.dropout
    if not peft_fuses(network, adapter, is_plain):
        warn("experts-in-peft")
    held = {_file_name(name): tensor for name, tensor in tensors(network, adapter).items()}
    write_tensors(draft.path / "adapter_model.safetensors", spec_of(held), held.items())
    write_config(draft, network, settings, base, below)


def write_config(
    draft: Draft, network: nn.Module, settings: Settings, base: ModelDir, below: Sequence[ModelDir] = ()
) -> None:
    """adapter_config.json, and in the hallmark which base it belongs to."""
    assert isinstance(network, Transformer)
    shape = settings.shape_keys(network) if hasattr(settings, "shape_keys") else {}
    content: dict[str, Any] = {
        "peft_type": settings.peft_type,
        **base_keys(network, base, settings.peft_type in ("LORA", "IA3")),
        **settings.keys(),
        **shape,
        "inference_mode": True,
    }
    draft.write_json(CONFIG, content)
    draft.numbers["base_weights"] = weights_digest(base)
    if is_in_nf4(network):
        draft.numbers[BASE_HELD] = "nf4"
    if below:
        draft.numbers["base_adapters"] = [weights_digest(adapter) for adapter in below]


def base_keys(network: Transformer, base: ModelDir, is_layered: bool) -> dict[str, Any]:
    """What adapter_config.json says of the base. `is_layered`: the adapter changes layers."""
    return {
        "task_type": _task(network, is_layered),
        "auto_mapping": _class(base) if isinstance(network, Encoder) and is_layered else None,
        "base_model_name_or_path": str(base.path),
        **({"fan_in_fan_out": base.config["model_type"] == "gpt2"} if is_layered else {}),
    }


def _task(network: Transformer, is_layered: bool) -> str | None:
    """PEFT's word for the kind of model; it has none for one that fills masks, and puts nothing in front of a text
    unless there is one."""
    if isinstance(network, Decoder):
        return "CAUSAL_LM"
    return SEQ2SEQ if isinstance(network, EncoderDecoder) else None if is_layered else "FEATURE_EXTRACTION"


def _class(base: ModelDir) -> dict[str, str]:
    """Where PEFT's AutoPeftModel finds the class of a base that it has no word for."""
    family = base.config["model_type"]
    return {
        "base_model_class": FAMILIES[family].architecture,
        "parent_library": f"transformers.models.{family}.modeling_{family}",
    }


def _file_name(name: str) -> str:
    return name if name == "prompt_embeddings" else PREFIX + name


def read_settings(adapter: ModelDir) -> Settings:
    """What an adapter directory says about itself. Raises `adapter-not-supported` naming the first key that says
    something we do not compute."""
    path, config = adapter.path / CONFIG, adapter.config
    for key, value in config.items():
        allowed = ONLY.get(key, EMPTY)
        if key not in KNOWN and value not in allowed:
            raise fail("adapter-not-supported", path=path, key=key, found=repr(value))
    kind = config.get("peft_type")
    if kind not in READERS:
        raise fail("unknown-adapter-type", path=path, found=kind, known=", ".join(READERS))
    try:
        return READERS[str(kind)](config, path)
    except KeyError as error:
        raise fail("missing-config-key", path=path, key=error.args[0]) from None
    except IngotError:
        raise
    except (TypeError, ValueError) as error:
        raise fail("bad-json", path=path, reason=str(error)) from None


def room_in_front(adapters: Sequence[ModelDir]) -> int:
    """Positions that adapters will take from every text's window, by what their files say."""
    found = [read_settings(adapter) for adapter in adapters]
    return max((settings.length for settings in found if isinstance(settings, Prefix | Prompt)), default=0)


def check_base(adapter: ModelDir, base: ModelDir, below: Sequence[ModelDir] = ()) -> None:
    """Refuse an adapter whose hallmark names other weights, or other adapters below it. One without a hallmark is
    checked by its shapes alone."""
    numbers = adapter.hallmark.step.numbers if adapter.hallmark else {}
    expected, found = numbers.get("base_weights"), weights_digest(base)
    if expected is not None and expected != found:
        details = {"expected": expected[:12], "found": found[:12]}
        raise fail("adapter-of-another-base", adapter=adapter.path, base=base.path, **details)
    wanted, given = numbers.get("base_adapters") or [], [weights_digest(each) for each in below]
    if wanted and given[-len(wanted) :] != wanted:
        raise fail("adapter-below-missing", adapter=adapter.path, count=len(wanted),
                   given=", ".join(each.name for each in below) or "-")  # fmt: skip


def teaches_both_ways(adapter: ModelDir) -> bool:
    """Whether an adapter makes a base that reads from left to right read prompts in both directions."""
    return bool(adapter.hallmark and adapter.hallmark.step.numbers.get(PREFIX_LM))


def learnt_in_nf4(adapter: ModelDir) -> bool:
    """Whether an adapter was trained on its base in 4 bits."""
    return bool(adapter.hallmark and adapter.hallmark.step.numbers.get(BASE_HELD) == "nf4")


def apply_adapter(
    network: Network,
    adapter: ModelDir,
    base: ModelDir | None,
    active: Active,
    below: Sequence[ModelDir] = (),
) -> Settings:
    """Put an adapter on `network` and load its tensors, strictly; all else is frozen. One that was learnt on prompts
    read in both directions makes the network read so. Without a base its fingerprint is not compared."""
    if base is not None:
        check_base(adapter, base, below)
    settings, name = read_settings(adapter), adapter.name
    put_on(network, settings, name, active)
    expected = {_file_name(key): path for key, path in tensor_names(network, name).items()}
    state = network.state_dict()
    held = taken_apart(network, getattr(settings, "parameters", ()), adapter, PREFIX)
    loaded: dict[str, Tensor] = {}
    for key, entry in _named(adapter, held, expected, network).items():
        tensor, present = held[entry](), state[expected[key]]
        check_finite(entry, tensor, adapter.path)
        if tensor.shape != present.shape:
            shapes = {"found": list(tensor.shape), "expected": list(present.shape)}
            raise fail("wrong-shape", tensor=entry, path=adapter.path, **shapes)
        device = "cpu" if present.is_meta else present.device
        loaded[expected[key]] = tensor.to(device, present.dtype)
    network.load_state_dict(loaded, strict=False, assign=True)
    network.requires_grad_(False)
    if teaches_both_ways(adapter):
        network.config = dataclasses.replace(network.config, prefix_lm=True)
    return settings


def _named(
    adapter: ModelDir, held: dict[str, Callable[[], Tensor]], expected: dict[str, str], network: nn.Module
) -> dict[str, str]:
    """Expected name -> name among those held. Raises `adapter-keys`, listing what is missing and what is left over.

    Adapters of bare backbones (PEFT's FEATURE_EXTRACTION) lack the outer prefix. Embeddings and heads that PEFT stored
    beside the update must be the base's.
    """
    outer = next(iter(network.state_dict())).partition(".")[0] + "."
    bare = {key: key.replace(PREFIX + outer, PREFIX, 1) for key in expected}
    there = held.keys()
    same = {key: key for key in expected}
    naming = same if len(set(expected) & there) >= len(set(bare.values()) & there) else bare
    missing = sorted(set(naming.values()) - there)
    extra = sorted(there - set(naming.values()))
    extra = [name for name in extra if not _is_base(name, adapter, network)]
    if missing or extra:
        raise fail("adapter-keys", path=adapter.path, matching=len(expected) - len(missing), expected=len(expected),
                   missing=_some(missing), unexpected=_some(extra),
                   nearest=nearest(extra[0], naming.values()) if extra and expected else "-")  # fmt: skip
    return naming


def _is_base(name: str, adapter: ModelDir, network: nn.Module) -> bool:
    """Whether a tensor is one of the base's own, stored along. Raises `adapter-carries` when its values differ."""
    plain = name.removeprefix(PREFIX).replace(".base_layer.", ".")
    if plain == name or not (plain.removesuffix(".weight") in HEADS or ".embed" in f".{plain}" or ".wte" in plain):
        return False
    state = {key.replace(".base_layer", ""): tensor for key, tensor in network.state_dict().items()}
    tied = network.ties.get(plain) if isinstance(network, Transformer) else None
    present = state.get(tied or plain)
    if present is None:
        return False
    carried = read_tensor(adapter.tensors[name])
    if not present.is_meta and (carried.shape != present.shape or not torch.equal(carried.to(present), present)):
        raise fail("adapter-carries", path=adapter.path, tensor=name)
    return True


def _some(names: list[str]) -> str:
    """The first few, and how many there are."""
    return ", ".join(names[:3]) + (f" ... ({len(names)})" if len(names) > 3 else "") or "-"
