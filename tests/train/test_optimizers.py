"""Optimisers against their definitions: torch's AdamW, the singular value decomposition, float32 trajectories."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ingot.core.errors import IngotError
from ingot.train.optimizers import OPTIMIZERS, Optimizers
from ingot.train.optimizers.adam8 import BLOCK, AdamW8, Codec, dynamic_map, largest
from ingot.train.optimizers.groups import freeze, parameter_groups, trainable
from ingot.train.optimizers.muon import Muon, orthogonalise
from ingot.train.settings import LoopOptions
from tiny import GPT2, LLAMA, QWEN3, make_decoder


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16), (3, 16, 24)])
def test_orthogonalisation_keeps_directions_and_evens_out_singular_values(shape: tuple[int, ...]) -> None:
    matrix = noise(*shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    in_its_basis = u.mT @ orthogonalise(matrix) @ v.mT
    values = in_its_basis.diagonal(dim1=-2, dim2=-1)
    assert (in_its_basis - torch.diag_embed(values)).abs().max() < 1e-4
    assert values.max() < 1.25
    assert values.min() > 0.3  # it aims at 0.7..1.2; the smallest of a random square is not there yet
    assert values.median() > 0.65


def test_muon_is_torchs_muon() -> None:
    """torch's runs its products in bfloat16, so they agree to its three digits."""
    ours, theirs = (nn.Parameter(noise(16, 40)) for _ in range(2))
    mine = Muon([{"params": [ours], "lr": 0.02, "weight_decay": 0.1}])
    peer = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    start = ours.detach().clone()
    for step in range(4):
        for parameter, optimizer in ((ours, mine), (theirs, peer)):
            parameter.grad = noise(16, 40, seed=step + 1)
            optimizer.step()
    assert (ours - theirs).norm() < 0.02 * (ours - start).norm()


def test_a_muon_update_is_as_large_as_adamws() -> None:
    for shape in ((64, 64), (32, 128)):
        moved = []
        for make in (lambda p: Muon([{"params": [p], "lr": 0.1}]), lambda p: torch.optim.AdamW([p], lr=0.1)):
            parameter = nn.Parameter(torch.zeros(shape))
            parameter.grad = noise(*shape)
            make(parameter).step()
            moved.append(float(parameter.detach().square().mean().sqrt()))
        assert 0.1 < moved[0] / moved[1] < 0.4  # 0.2 to 0.4 is what AdamW's steps measure in training


def test_the_dynamic_map_is_the_published_one() -> None:
    for signed in (True, False):
        values = dynamic_map(signed)
        assert len(values) == 256
        assert values.unique().numel() == 256
        assert float(values[-1]) == 1.0
        assert 0.0 in values
    assert float(dynamic_map(True)[0]) == pytest.approx(-0.99296875, abs=1e-6)


@pytest.mark.parametrize("signed", [True, False])
def test_coding_is_the_nearest_value_and_nothing_but_zero_is_zero(signed: bool) -> None:
    codec = Codec.of(signed, torch.device("cpu"))
    x = noise(8, BLOCK) * 10 ** (4 * noise(8, BLOCK, seed=1) - 4)
    x = x if signed else x.abs()
    x[0, :5] = 0.0
    x[1] = 0.0
    scale = largest(x)
    codes = codec.encode(x, scale)
    back = codec.decode(codes, scale)
    assert torch.equal(back == 0, x == 0)
    assert torch.equal(back.sign(), x.sign())
    nearest = (x / scale.clamp(min=1e-38)).unsqueeze(-1).sub(codec.values).abs().amin(-1) * scale
    smallest = codec.values[codec.values > 0].min() * scale
    assert ((back - x).abs() <= nearest * 1.01 + 1.01 * smallest + 1e-3 * x.abs()).all()


def quadratic(optimizer_of: Callable[[list[nn.Parameter]], torch.optim.Optimizer], steps: int) -> Tensor:
    """Weights after minimising a noisy ill-conditioned quadratic."""
    parameter = nn.Parameter(noise(40, 256))
    optimizer = optimizer_of([parameter])
    curvature = torch.logspace(-2, 1, 256)
    for step in range(steps):
        parameter.grad = curvature * parameter.detach() + 0.1 * noise(40, 256, seed=step)
        optimizer.step()
    return parameter.detach()


def test_8_bit_follows_float32() -> None:
    settings = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}
    exact = quadratic(lambda p: torch.optim.AdamW(p, **settings), 60)
    small = quadratic(lambda p: AdamW8([{"params": p} | settings], (0.9, 0.95)), 60)
    assert (small - exact).norm() < 0.06 * (exact - noise(40, 256)).norm()


def test_without_coding_it_is_torchs_adamw() -> None:
    """A tensor too small for bytes goes through the same arithmetic in float32."""
    ours, theirs = (nn.Parameter(noise(30, 10)) for _ in range(2))
    mine = AdamW8([{"params": [ours], "lr": 0.01, "weight_decay": 0.1}], (0.9, 0.95))
    peer = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, betas=(0.9, 0.95))
    for step in range(5):
        for parameter, optimizer in ((ours, mine), (theirs, peer)):
            parameter.grad = noise(30, 10, seed=step + 1)
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_fresh_8_bit_state_is_zero_and_the_last_block_may_be_short() -> None:
    parameter = nn.Parameter(noise(5, 1001))
    optimizer = AdamW8([{"params": [parameter], "lr": 0.1}], (0.9, 0.95))
    before = parameter.detach().clone()
    parameter.grad = noise(5, 1001, seed=1)
    optimizer.step()
    assert torch.allclose(parameter, before - 0.1 * parameter.grad.sign(), atol=1e-4)


def step_all(optimizers: Optimizers, model: nn.Module, seed: int) -> None:
    for number, parameter in enumerate(trainable(model).values()):
        parameter.grad = noise(*parameter.shape, seed=100 * seed + number)
    optimizers.step(0.01)


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_state_goes_out_and_in_bit_for_bit(method: str) -> None:
    config = QWEN3 | {"hidden_size": 64, "intermediate_size": 96}  # some tensors over the 8-bit threshold
    options = LoopOptions(optimizer=method)
    model, again = make_decoder(config), make_decoder(config)
    first, second = Optimizers(model, options), Optimizers(again, options)
    step_all(first, model, 1)
    again.load_state_dict(model.state_dict())
    second.load({name: value.clone() for name, value in first.state()})
    step_all(first, model, 2)
    step_all(second, again, 2)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_8_bit_states_take_a_quarter() -> None:
    sizes = {}
    for method in ("adamw", "adamw8"):
        model = make_decoder(LLAMA | {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32})
        optimizers = Optimizers(model, LoopOptions(optimizer=method))
        step_all(optimizers, model, 1)
        sizes[method] = optimizers.bytes
    assert 3.8 < sizes["adamw"] / sizes["adamw8"] < 4


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["untied", "tied"])
def test_groups_hold_every_parameter_once(config: dict[str, object]) -> None:
    model = make_decoder(config)
    groups = {group.kind: group for group in parameter_groups(model, 0.1)}
    names = [name for group in groups.values() for name in group.parameters]
    assert sorted(names) == sorted(trainable(model))
    assert ("head" in groups) == (config is LLAMA)
    assert all(parameter.dim() == 2 for parameter in groups["matrix"].parameters.values())
    assert {kind: group.decay for kind, group in groups.items() if group.decay} == dict.fromkeys(
        [kind for kind in groups if kind in ("matrix", "head")], 0.1
    )


def test_only_matrices_go_to_muon(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="ingot")
    Optimizers(make_decoder(LLAMA), LoopOptions(optimizer="muon")).tell(1e-3)
    lines = {line.partition(":")[0]: line for line in caplog.messages}
    assert {kind for kind, line in lines.items() if "Muon" in line} == {"matrix"}
    assert "model.layers.*.self_attn.q_proj.weight" in lines["matrix"]
    assert "decay 0.1" in lines["head"]
    assert "decay 0," in lines["embedding"]


def test_freezing() -> None:
    model = make_decoder(LLAMA)
    frozen = freeze(model, "model.embed_tokens.*, model.layers.0.*")
    assert frozen == 320 * 32 + sum(p.numel() for p in model.blocks[0].parameters())
    assert not any(name.startswith(("model.embed", "model.layers.0")) for name in trainable(model))
    with pytest.raises(IngotError, match="embed_token"):
        freeze(make_decoder(LLAMA), "model.embd_tokens.weight")
    with pytest.raises(IngotError, match="nothing is left"):
        freeze(model, "*")
