"""The report of an inspection: maps, heads, the stream, what each layer would say, parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ingot.core.language import text
from ingot.core.report import Cell, Map, Maps, Plot, Prose, Section, Series, Table, Unit
from ingot.infer.inspection.capture import CROSS, Seen
from ingot.model.parameters import Parameters
from ingot.model.plan_params import by_part

TOP = 5
"""Tokens shown for each layer."""

SINK = 0.5
"""A head that gives the first token more than this is counted as a sink."""


@dataclass(frozen=True)
class Text:
    """What was read: names of the tokens on the writing side, and of the source where there is one."""

    tokens: list[str]
    source: list[str]

    def sides(self, stack: str) -> tuple[list[str], list[str]]:
        """Names of queries and of keys of a stack's attention."""
        if stack == CROSS:
            return self.tokens, self.source
        side = self.source if stack == "encoder" else self.tokens
        return side, side


@dataclass(frozen=True)
class Head:
    """A head in numbers: entropy in bits, averaged over queries; its average share on the first token, over the
    queries behind it; on the query's own token, and on the one before."""

    stack: str
    layer: int
    head: int
    entropy: float
    first: float | None
    own: float | None
    before: float | None


def heads(seen: Seen) -> list[Head]:
    """Every head of every stack."""
    found = []
    for stack, layers in seen.attention.items():
        for layer, weights_HTS in enumerate(layers):
            for head, weights_TS in enumerate(weights_HTS):
                found.append(_head(stack, layer, head, weights_TS.double()))
    return found


def _head(stack: str, layer: int, head: int, weights_TS: Tensor) -> Head:
    entropy = float(torch.special.entr(weights_TS).sum(-1).mean() / torch.log(torch.tensor(2.0, dtype=torch.float64)))
    crosses, alone = stack == CROSS, len(weights_TS) < 2
    front = 0 if crosses else weights_TS.shape[1] - len(weights_TS)  # keys that adapters put in front of the text
    first = weights_TS[0 if crosses else 1 :, front].mean() if crosses or not alone else None
    own = None if crosses else weights_TS.diagonal(front).mean()
    before = None if crosses or alone else weights_TS[1:].diagonal(front).mean()
    return Head(
        stack, layer, head, entropy, *(None if value is None else float(value) for value in (first, own, before))
    )


def sections(seen: Seen, read: Text, names: Any, parameters: Parameters, drawn: set[int] | None) -> list[Section]:
    """`names(id)`: a token as text. `drawn`: layers to draw, None for all."""
    maps = [_maps(stack, layers, read, drawn) for stack, layers in seen.attention.items()]
    found = heads(seen)
    return [
        _text(read),
        *maps,
        _by_layer(found, "entropy"),
        _by_layer(found, "first"),
        _table(found),
        _stream(seen),
        _lens(seen, names),
        by_part(parameters, len(read.tokens)),
    ]


def _text(read: Text) -> Prose:
    sides = [text("inspect-source", tokens=" | ".join(read.source))] if read.source else []
    return Prose(title=text("inspect-text"), text="\n\n".join([*sides, " | ".join(read.tokens)]))


def _maps(stack: str, layers: list[Tensor], read: Text, drawn: set[int] | None) -> Maps:
    queries, keys = read.sides(stack)
    maps = [
        Map(
            group=text("inspect-layer", layer=layer),
            name=text("inspect-head", head=head),
            values=[[round(value, 5) for value in row] for row in weights_TS.tolist()],
        )
        for layer, weights_HTS in enumerate(layers)
        if drawn is None or layer in drawn
        for head, weights_TS in enumerate(weights_HTS)
    ]
    rows, columns = (_behind(names, size) for names, size in zip((queries, keys), layers[0].shape[1:], strict=True))
    title = text(f"inspect-maps-{stack}")
    return Maps(title=title, rows=rows, columns=columns, maps=maps, note=text("inspect-maps-note"))


def _behind(names: list[str], size: int) -> list[str]:
    """Names of tokens behind numbers of what adapters put in front of them."""
    return [*(f"[{number + 1}]" for number in range(size - len(names))), *names]


def _by_layer(found: list[Head], name: str) -> Plot:
    """A dot a head."""
    series = []
    for stack in dict.fromkeys(head.stack for head in found):
        own = [head for head in found if head.stack == stack]
        series.append(
            Series(name=text(f"inspect-{stack}"), x=[h.layer for h in own], y=[getattr(h, name) for h in own])
        )
    unit: Unit = "number" if name == "entropy" else "percent"
    return Plot(
        title=text(f"inspect-{name}"),
        kind="scatter",
        series=series,
        unit=unit,
        note=text(f"inspect-note-{name}"),
        x_label=text("inspect-axis-layer"),
        y_label=text(f"inspect-axis-{name}"),
    )


def _table(found: list[Head]) -> Table:
    columns = [
        text(f"inspect-column-{name}") for name in ("stack", "layer", "head", "entropy", "first", "own", "before")
    ]
    rows: list[list[Cell]] = [
        [text(f"inspect-{h.stack}"), h.layer, h.head, h.entropy, h.first, h.own, h.before] for h in found
    ]
    units: dict[str, Unit] = dict.fromkeys(columns[4:], "percent")
    return Table(title=text("inspect-heads"), columns=columns, rows=rows, units=units)


def _stream(seen: Seen) -> Plot:
    """Norm of the first token's vector and the mean of the others', as they leave each layer."""
    series = []
    for stack in seen.stacks:
        norms_LT = torch.stack([x.float().norm(dim=-1) for x in stack.stream])
        where: list[float | str | None] = [float(layer) for layer in range(len(norms_LT))]
        name = text(f"inspect-{stack.name}")
        series.append(Series(name=text("inspect-norm-first", stack=name), x=where, y=norms_LT[:, 0].tolist()))
        if norms_LT.shape[1] > 1:
            others = norms_LT[:, 1:].mean(1).tolist()
            series.append(Series(name=text("inspect-norm-others", stack=name), x=where, y=others))
    left, norm = text("inspect-axis-left"), text("inspect-axis-norm")
    return Plot(title=text("inspect-stream"), kind="line", series=series, x_label=left, y_label=norm)


def _lens(seen: Seen, names: Any) -> Table:
    """What the head makes of the stream at the last token, layer by layer (nostalgebraist 2020, the logit lens)."""
    rows: list[list[Cell]] = []
    for layer, logits_TV in enumerate(seen.lens):
        shares, ids = logits_TV[-1].softmax(-1).topk(TOP)
        found = zip(shares.tolist(), ids.tolist(), strict=True)
        rows.append([layer, *(f"{names(id)} {share:.0%}" for share, id in found)])
    columns = [text("inspect-column-after"), *(str(place + 1) for place in range(TOP))]
    return Table(title=text("inspect-lens"), columns=columns, rows=rows, note=text("inspect-lens-note"))
