"""A step of training on tensors that have shapes but no memory, with every allocation counted.

The code that is rehearsed is the code that trains: the network, the loss in parts, checkpointing, LoRA. Fake tensors
(torch's FakeTensorMode) pick the kernels of the device they pretend to be on, and storages are counted as they come and
go, so the peak is that of the real step to the byte, for every family and without a formula. What kernels allocate
inside themselves is not seen, nor what compiling saves. A card is rehearsed where there is one; elsewhere a CPU stands
in for it. Networks of many equal layers are rehearsed with two and with four of them, and the line is drawn on.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ingot.adapt.active import Active
from ingot.adapt.methods import put_on
from ingot.data.objectives.lesson import Lesson
from ingot.data.objectives.options import ObjectiveOptions
from ingot.data.objectives.span_corruption import target_width
from ingot.model.config import ModelConfig
from ingot.model.encoder import Encoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.layers import RMSNorm
from ingot.model.network import Network, make_network
from ingot.model.nf4 import BLOCK, NESTED_BLOCK, NF4
from ingot.model.nf4_linear import NF4Linear, hold_in_nf4
from ingot.train.cross_entropy import PART_NUMBERS
from ingot.train.loss import Inputs, prediction_loss
from ingot.train.memory.setting import FLOAT, Setting
from ingot.train.method import TUNED
from ingot.train.offload import at_home, visiting
from ingot.train.optimizers.groups import parameter_groups
from ingot.train.rematerialise import plainly, rematerialised

FEW, MORE = 2, 4
"""Layers of the two rehearsals that a line is drawn through."""


@dataclass(frozen=True)
class Step:
    """Bytes of a step. `peak`: all that is alive at the worst moment of forward and backward, but the optimiser's
    `states`; `transient`: what the optimiser needs beside them while it updates. `layers`, `layer_gradients` and
    `layer_states`: how much of the first three belongs to what `--loop.offload layers` keeps off the device."""

    weights: float
    gradients: float
    states: float
    transient: float
    peak: float
    layers: float
    layer_gradients: float
    layer_states: float

    def beyond(self, other: Step, layers: float) -> Step:
        """This step with so many times the difference to another added."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return Step(*(mine + layers * (mine - theirs) for mine, theirs in pairs))


@dataclass(frozen=True)
class Scene:
    """What is rehearsed of a setting: its network, made where tensors take no memory, a micro-batch for it, and the
    loss, which is told how many logits to hold at a time."""

    network: Callable[[Setting], Network]
    lesson: Callable[[Setting, Network], Lesson]
    loss: Callable[[Network, Inputs, int], Tensor]


def rehearse(setting: Setting, scene: Scene | None = None) -> Step:
    """The memory of a step of this setting: of a new network of its config, or of what `scene` says."""
    scene, config, layers = scene or PLANNED, setting.config, setting.config.num_layers
    if layers <= MORE or not _is_even(config):
        return _whole(setting, scene)
    few, more = (_whole(replace(setting, config=shortened(config, layers=count)), scene) for count in (FEW, MORE))
    step = more.beyond(few, (layers - MORE) / (MORE - FEW))
    return replace(step, transient=more.transient)


def _is_even(config: ModelConfig) -> bool:
    """Whether a line through two depths tells a third: layers are alike, and both stacks are as deep."""
    return not getattr(config, "dense_layers", None) and getattr(config, "encoder_layers", 0) in {0, config.num_layers}


def shortened(config: ModelConfig, layers: int) -> ModelConfig:
    """The same config with its first layers, every kind of window and of rotary positions still among them."""
    windows, ropes = _spread(config.windows, layers), _spread(config.ropes, layers)
    own: dict[str, Any] = {"encoder_layers": layers} if hasattr(config, "encoder_layers") else {}
    return replace(config, num_layers=layers, windows=windows, ropes=ropes, **own)


def _spread(kinds: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    distinct = list(dict.fromkeys(kinds))
    return tuple((distinct + [kinds[0]] * count)[:count])


def _whole(setting: Setting, scene: Scene) -> Step:
    """Rehearse one step of the config as it is."""
    device = torch.device("cuda" if setting.device == "cuda" and torch.cuda.is_available() else "cpu")
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        Evenly(getattr(setting.config, "experts", 1)),
        Storages() as storages,
    ):
        with device:
            network = scene.network(setting)
        if device.type != setting.device:
            _normalise_as_a_card(network)
        weights = storages.peak = storages.now
        inputs = Inputs.of(scene.lesson(setting, network), device)
        for parameter in at_home(network) if setting.layers_visit else ():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_leave)
        call = visiting(torch.clone) if setting.layers_visit else plainly
        with rematerialised(network, setting.checkpointing or setting.layers_visit, call):
            for _ in range(min(2, setting.micro_batches)):
                _loss(setting, scene, network, inputs).backward()
        return _step(setting, network, weights, storages.peak + decoded_bytes(setting, network))


def _normalise_as_a_card(network: Network) -> None:
    """A card's RMS norm is one kernel that keeps what a CPU's layer norm keeps; a CPU's own keeps twice as much."""
    for module in network.modules():
        if isinstance(module, RMSNorm):
            module.forward = partial(_layer_norm, module)  # type: ignore[method-assign]


def _layer_norm(norm: RMSNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), norm.weight.to(x.dtype))


def _leave(parameter: Tensor) -> None:
    """A gradient that goes home takes no memory of the card."""
    parameter.grad = None


def _step(setting: Setting, network: Network, weights: float, peak: float) -> Step:
    """What belongs to whom, after a rehearsal."""
    groups = parameter_groups(network, 0.0)
    states = {id(p): setting.state_bytes(p.shape, group.kind) for group in groups for p in group.parameters.values()}
    sizes = [p.numel() for group in groups if group.kind == "matrix" for p in group.parameters.values()]
    layers = at_home(network)
    return Step(
        weights=weights,
        gradients=_bytes(network.parameters(), trained=True),
        states=sum(states.values()),
        transient=setting.transient_bytes(max(sizes, default=0)),
        peak=peak,
        layers=_bytes(layers),
        layer_gradients=_bytes(layers, trained=True),
        layer_states=sum(states.get(id(parameter), 0.0) for parameter in layers),
    )


def _bytes(parameters: Iterable[nn.Parameter], trained: bool = False) -> float:
    """Bytes of parameters, or of those that train."""
    return float(sum(p.numel() * p.element_size() for p in parameters if p.requires_grad or not trained))


def _network(setting: Setting) -> Network:
    with made_in(setting.held):
        network = make_network(plain_positions(setting.config))
    if setting.method == "qlora":
        pack(network)
    if setting.adapter is not None:
        put_on(network, setting.adapter, TUNED, Active())
    return network.train()


def pack(network: Network) -> None:
    """Hold its layers in NF4, whose bytes are only as many as they will be."""
    with unset_fake_temporarily():  # the lists of values are numbers, and small
        layers = hold_in_nf4(network, network.config.model_type)
    for layer in layers.values():
        size = layer.num_weights
        layer.fill(NF4(torch.empty(size // 2, dtype=torch.uint8), torch.empty(size // BLOCK, dtype=torch.uint8),
                       torch.empty(-(-size // BLOCK // NESTED_BLOCK)), torch.empty(())))  # fmt: skip


def decoded_bytes(setting: Setting, network: Network) -> float:
    """What the largest layer in 4 bits takes while a product decodes it, inside an operator, where nobody counts."""
    sizes = [module.num_weights for module in network.modules() if isinstance(module, NF4Linear)]
    return float(max(sizes, default=0) * (2 if setting.precision == "bf16" else FLOAT))


@contextlib.contextmanager
def made_in(dtype: torch.dtype) -> Iterator[None]:
    """While the block runs, new parameters are of this kind. (Tensors without memory cannot be turned into another.)"""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def plain_positions(config: ModelConfig) -> ModelConfig:
    """Rotary positions that depend on the text's length cannot be rehearsed; plain ones take the same memory."""
    return replace(config, ropes=tuple(rope and replace(rope, scaling="default") for rope in config.ropes))


def _loss(setting: Setting, scene: Scene, network: Network, inputs: Inputs) -> Tensor:
    device = inputs.ids_BT.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=setting.precision == "bf16"):
        return scene.loss(network, inputs, PART_NUMBERS[setting.device]) / max(1, inputs.num_targets)


def _prediction_loss(network: Network, inputs: Inputs, part_numbers: int) -> Tensor:
    return prediction_loss(network, inputs, part_numbers=part_numbers)


def lesson(setting: Setting, network: Network) -> Lesson:
    """A micro-batch as training sees it: packed rows of two documents. An encoder predicts the masked share of its
    tokens, an encoder-decoder the spans cut out of its source, a decoder every next token."""
    rows, length, numbers = setting.micro_rows, setting.length, ObjectiveOptions()
    width = target_width(length, numbers.noise, numbers.span) if isinstance(network, EncoderDecoder) else length
    ids, segments = np.zeros((rows, width), np.int32), two_documents(rows, width)
    labels = np.zeros((rows, width), np.int32)
    if isinstance(network, Encoder):
        labels[:] = -1
        labels[:, : max(1, round(length * numbers.noise))] = 0
    elif isinstance(network, EncoderDecoder):
        return Lesson(ids, segments, labels, np.arange(rows), None, np.zeros((rows, length), np.int32),
                      two_documents(rows, length))  # fmt: skip
    else:
        labels[:, [length // 2 - 1, -1]] = -1
    return Lesson(ids, segments, labels, np.arange(rows))


PLANNED = Scene(_network, lesson, _prediction_loss)
"""A network that nobody has made yet, and rows of two documents."""


def two_documents(rows: int, width: int) -> Any:
    """Segment numbers of rows that hold two documents each."""
    return np.repeat((np.arange(width) >= width // 2)[None], rows, 0).astype(np.int32)


class Storages(TorchDispatchMode):
    """Counts the bytes of every storage that operations make, until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0.0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._see(value)
        return result

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        self._alive[key] = storage.nbytes()
        self.now += self._alive[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._alive.pop(key)


class Evenly(TorchFunctionMode):
    """Which tokens choose an expert cannot be known without numbers: each gets an equal share of them.

    The mixture asks by `torch.where(choices == expert)`; that one call is answered here.
    """

    def __init__(self, experts: int) -> None:
        super().__init__()
        self._experts = experts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.where and len(args) == 1:
            tokens, chosen = args[0].shape
            share = max(1, round(tokens * chosen / self._experts))
            return torch.arange(share) % tokens, torch.zeros(share, dtype=torch.long)
        return func(*args, **(kwargs or {}))
