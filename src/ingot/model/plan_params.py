"""The verb `plan params`: where a model's parameters are, what they weigh and what a token costs, from shapes alone."""

from __future__ import annotations

from pathlib import Path

from ingot.core.files import refuse_nonempty
from ingot.core.format import show, show_bytes
from ingot.core.language import text
from ingot.core.options import Options, option, optional_argument, verb
from ingot.core.progress import say
from ingot.core.report import Cell, Plot, Report, Section, Series, Table, Unit
from ingot.model.parameters import FORMATS, PARTS, Parameters, alike, count
from ingot.model.subject import Subject, choose


class ParamsOptions(Options):
    """Options of `plan params`."""

    model: str | None = optional_argument(None, "a model: DIR, or DIR+ADAPTER")
    preset: str | None = option(None, "a well-known model instead, for example bert-base, gpt3 or llama-3-8b")
    config: Path | None = option(None, "a config.json instead")
    length: int | None = option(None, "tokens of a text, for the cost of attention; by default the window", ge=1)
    out: Path | None = option(None, "write a report to this directory")


@verb(ParamsOptions)
def plan_params(options: ParamsOptions) -> Report:
    """Show where a model's parameters are and what they cost."""
    if options.out is not None:
        refuse_nonempty(options.out)
    subject = choose(options.model, options.preset, options.config)
    parameters = count(subject.config)
    length = options.length or subject.config.max_length
    report = Report(
        title=text("plan-params-title", name=subject.name),
        verb="plan params",
        options=options.model_dump(mode="json"),
        numbers=_numbers(subject, parameters, length),
        sections=sections(subject, parameters, length),
    )
    _tell(report)
    if options.out is None:
        return report
    written = report.write(options.out)
    say("plan-written", path=written.summary()["report"])
    return written


def _numbers(subject: Subject, parameters: Parameters, length: int) -> dict[str, Cell]:
    found: dict[str, Cell] = {
        "parameters": parameters.total,
        "active_parameters": parameters.active,
        "parameters_without_head": parameters.without_head,
        "parameters_without_embedding": parameters.without_embedding,
        "flops_per_token": sum(parameters.flops(part, length) for part in PARTS),
    }
    found |= {f"{format}_bytes": parameters.bytes(format) for format in FORMATS}
    return found | ({"adapter_parameters": subject.adapter_size} if subject.adapters else {})


def sections(subject: Subject, parameters: Parameters, length: int) -> list[Section]:
    """By part, by layer, and what other counts of the same model are."""
    return [by_part(parameters, length), _by_layer(parameters), _counts(subject, parameters), _picture(parameters)]


def by_part(parameters: Parameters, length: int) -> Table:
    """A row a part and their sum."""
    flops = {part: parameters.flops(part, length) for part in PARTS}
    rows: list[list[Cell]] = [
        [
            text(f"plan-part-{part}"),
            parameters.of(part),
            parameters.of(part) / parameters.total,
            *(parameters.bytes(format, part) for format in FORMATS),
            flops[part],
        ]
        for part in PARTS
    ]
    sizes = [parameters.bytes(format) for format in FORMATS]
    rows.append([text("plan-total"), parameters.total, 1.0, *sizes, sum(flops.values())])
    share, formats = text("plan-share"), [text("plan-bytes-in", format=format) for format in FORMATS]
    units: dict[str, Unit] = {share: "percent", **dict.fromkeys(formats, "bytes")}
    return Table(
        title=text("plan-by-part"),
        columns=[text("plan-part"), text("plan-parameters"), share, *formats, text("plan-flops")],
        rows=rows,
        units=units,
        note=text("plan-by-part-note", length=f"{length:,}"),
    )


def _by_layer(parameters: Parameters) -> Table:
    """Layers of equal content share a row."""
    inside = [part for part in PARTS if any(parameters.of(part, layer=layer) for layer in parameters.layers)]
    rows: list[list[Cell]] = []
    for first, last in alike(parameters):
        name = first if first == last else f"{first} – {last.rpartition(' ')[2]}"
        rows.append([name, *(parameters.of(part, layer=first) for part in inside), parameters.of(layer=first)])
    columns = [text("plan-layers"), *(text(f"plan-part-{part}") for part in inside), text("plan-one-layer")]
    return Table(title=text("plan-by-layer"), columns=columns, rows=rows)


def _counts(subject: Subject, parameters: Parameters) -> Table:
    """The same model counted as others do."""
    rows: list[list[Cell]] = [[text("plan-count-all"), parameters.total]]
    if parameters.config.tie_embeddings:
        rows.append([text("plan-count-untied"), parameters.total + parameters.head_matrix])
    rows += [[text("plan-count-backbone"), parameters.without_head]]
    if parameters.pooler:
        rows.append([text("plan-count-pooler"), parameters.without_head + parameters.pooler])
    rows.append([text("plan-count-inner"), parameters.without_embedding])
    if parameters.active != parameters.total:
        rows.append([text("plan-count-active"), parameters.active])
    if subject.adapters:
        rows.append([text("plan-count-adapter"), subject.adapter_size])
    if subject.preset is not None:
        rows.append([text("plan-count-published", source=subject.preset.source), round(subject.preset.published)])
    return Table(title=text("plan-counts"), columns=[text("plan-counted"), text("plan-parameters")], rows=rows)


def _picture(parameters: Parameters) -> Plot:
    held = [part for part in PARTS if parameters.of(part)]
    shares = [parameters.of(part) / parameters.total for part in held]
    series = Series(name=text("plan-share"), x=[text(f"plan-part-{part}") for part in held], y=[*shares])
    return Plot(title=text("plan-shares"), kind="bar", series=[series], unit="percent")


def _tell(report: Report) -> None:
    """The parts and the counts as lines."""
    parts, _, counts, _ = report.sections
    assert isinstance(parts, Table)
    assert isinstance(counts, Table)
    say("plan-head", title=report.title)
    for name, size, part, fp32, bf16, int8, int4, flops in parts.rows:
        found = [show_bytes(float(value)) for value in (fp32, bf16, int8, int4)]  # type: ignore[arg-type]
        say("plan-params-row", name=name, parameters=show(size), share=show(part, "percent"),
            fp32=found[0], bf16=found[1], int8=found[2], int4=found[3], flops=f"{flops:.3g}")  # fmt: skip
    for name, size in counts.rows:
        say("plan-params-count", name=name, parameters=show(size))
