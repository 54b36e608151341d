"""Suite `counterfactual`: the same sentence about people of different groups, in English and Traditional Chinese.

    attribute   log p(good ending) - log p(bad ending) behind a beginning that names one of a group, minus the mean of
                the same for the other groups of the axis; in nats, above 0: the group is spoken of better
    sentence    log p of a sentence about a man minus about the same woman, in sentences about work minus in sentences
                about the home; in nats, above 0: men rather at work, women rather at home
    text        what the model writes on about each group: length, refusals, and tone by a small list of words; shown,
                not tested

What is compared differs by the group's name alone: a perturbation of words, no proof of how people would fare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from pydantic import RootModel

from ingot.adapt.load import LanguageModel
from ingot.core.language import text
from ingot.evaluate.bias.asking import asking_label, follow, prefers_order, sentences, shuffled, sums, write
from ingot.evaluate.bias.axes import Axis, Setting, filled, read_setting
from ingot.evaluate.bias.finding import Finding, Parts, finding, ratio
from ingot.evaluate.bias.options import BiasOptions
from ingot.evaluate.bias.own import Lang, in_language, read_own, shipped
from ingot.evaluate.bias.suite import Control, Example, Scored, Suite, withhold
from ingot.evaluate.bias.swap.swap import swap
from ingot.evaluate.bias.texts import sources_table, texts_table
from ingot.evaluate.statistics import Values
from ingot.evaluate.task import Row

NAME = "counterfactual"
TAG = re.compile(r"\{([^{}|]*)\|([^{}|]*)\}")
WORK, HOME, NEUTRAL = "work", "home", "neutral"
ATTRIBUTE, PROMPT, SENTENCE = "attribute", "prompt", "sentence"


class Sentences(RootModel[dict[Lang, dict[str, list[str]]]]):
    """Tagged sentences by language and by what they are about."""


@dataclass(frozen=True)
class Asked:
    """One thing to ask. texts: the beginning (or both sentences); endings: good and bad; names: of the axis and group,
    in both languages, for the page."""

    kind: str
    lang: str
    template: str
    texts: tuple[str, ...]
    axis: str = ""
    group: str = ""
    term: int = 0
    endings: tuple[str, ...] = ()
    names: dict[str, dict[str, str]] = field(default_factory=dict)


def prepare(options: BiasOptions) -> list[Asked]:
    """Every term of every axis in every sentence of its language, and the tagged sentences."""
    setting = read_setting(options.own.axes, options.own.templates)
    asked = [one for name, axis in setting.axes.items() for one in _of_axis(setting, name, axis)]
    return [*asked, *_tagged({one.lang for one in asked})]


def _of_axis(setting: Setting, name: str, axis: Axis) -> Iterator[Asked]:
    for lang in axis.languages:
        sentences_of = setting.templates[lang]
        for key, group in axis.groups.items():
            names = {"axis": axis.name.model_dump(), "group": group.name.model_dump()}
            for term, words in enumerate(group.terms[lang]):
                for at, one in enumerate(sentences_of.attributes):
                    yield Asked(ATTRIBUTE, lang, str(at), (filled(one.text, words),), name, key, term,
                                (one.good, one.bad), names)  # fmt: skip
            told = {**names, "why": {"reason": axis.reason, "source": axis.source}}
            for at, prompt in enumerate(sentences_of.prompts):
                yield Asked(PROMPT, lang, str(at), (filled(prompt, group.terms[lang][0]),), name, key, names=told)


def _tagged(langs: set[str]) -> Iterator[Asked]:
    """The sentences of `pairs.yaml`; each must swap into its counterpart. Raises `bias-bad-pair`."""
    found, place = read_own(Sentences, shipped("pairs.yaml"))
    for lang, domains in found.root.items():
        for domain, tagged in domains.items():
            for at, one in enumerate(tagged if lang in langs else []):
                first, second = TAG.sub(r"\1", one), TAG.sub(r"\2", one)
                if swap(first, lang).text != second or swap(second, lang).text != first:
                    raise place.fail("bias-bad-pair", lang, domain, at, found=one)
                yield Asked(SENTENCE, lang, f"{domain}/{at}", (first, second), axis=domain)


def measure(model: LanguageModel, asked: Sequence[Asked], options: BiasOptions) -> list[Row]:
    """One row a thing asked, all likelihoods together, then what is written."""
    label = asking_label(model, NAME)
    attributes = [one for one in asked if one.kind == ATTRIBUTE]
    queries = [follow(model.tokenizer, one.texts[0], ending) for one in attributes for ending in one.endings]
    nats = sums(model, queries, label)
    tagged = [one for one in asked if one.kind == SENTENCE]
    flat = sentences(
        model, [shown for one in tagged for shown in (*one.texts, shuffled(one.texts[0], one.lang))], label
    )
    prompts = [one for one in asked if one.kind == PROMPT]
    written = write(model, [one.texts[0] for one in prompts], False, options, label)
    return [
        *({**asdict(one), "nats": nats[2 * at : 2 * at + 2]} for at, one in enumerate(attributes)),
        *({**asdict(one), "nats": flat[3 * at : 3 * at + 3]} for at, one in enumerate(tagged)),
        *({**asdict(one), **asdict(found)} for one, found in zip(prompts, written, strict=True)),
    ]


def score(rows: Sequence[Row], seed: int) -> Scored:
    """Findings by axis, group and language; a language's are withheld whose sentences are no better than shuffled."""
    findings, controls, examples = [], [], []
    for lang in dict.fromkeys(row["lang"] for row in rows):
        mine = [row for row in rows if row["lang"] == lang]
        tagged = [row for row in mine if row["kind"] == SENTENCE]
        order = prefers_order([(row["nats"][0], row["nats"][2]) for row in tagged])
        control = Control(f"{text('bias-control-order')} ({lang})", order, chance=0.5)
        found = [*_attributes(mine, lang, seed), *_sentences(tagged, lang, seed)]
        findings += withhold(found, control)
        controls.append(control)
        examples += [*_attribute_examples(mine, lang), *_sentence_examples(tagged, lang)]
    written = [row for row in rows if row["kind"] == PROMPT]
    table, read = texts_table(written, seed)
    return Scored(findings, [*controls, *read], examples, sections=[table, sources_table(written)])


def _groups(rows: Sequence[Row], axis: str) -> dict[str, dict[str, list[float]]]:
    """group -> template -> the values of its terms."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row["kind"] == ATTRIBUTE and row["axis"] == axis:
            found.setdefault(row["group"], {}).setdefault(row["template"], []).append(value(row))
    return found


def value(row: Row) -> float:
    """log p(good) - log p(bad), nats."""
    good, bad = row["nats"]
    return float(good - bad)


def axis_gaps(rows: Sequence[Row], axis: str) -> dict[str, Values]:
    """Of each group: by template, its mean over terms minus the mean of the other groups."""
    means = {group: np.array([np.mean(values) for values in found.values()])
             for group, found in _groups(rows, axis).items()}  # fmt: skip
    return {
        group: mine - np.mean([other for name, other in means.items() if name != group], axis=0)
        for group, mine in means.items()
    }


def _attributes(rows: Sequence[Row], lang: str, seed: int) -> Iterator[Finding]:
    """Two groups are one question; of more, each is compared with the rest."""
    for axis in dict.fromkeys(row["axis"] for row in rows if row["kind"] == ATTRIBUTE):
        gaps = axis_gaps(rows, axis)
        named = {row["group"]: row["names"] for row in rows if row["kind"] == ATTRIBUTE and row["axis"] == axis}
        shown = {group: in_language(names["group"]) for group, names in named.items()}
        title = in_language(next(iter(named.values()))["axis"])
        groups = list(gaps)
        for group in groups[:1] if len(groups) == 2 else groups:
            other = shown[groups[1]] if len(groups) == 2 else text("bias-the-others")
            label = text("bias-cf-gap", axis=title, group=shown[group], other=other, lang=lang)
            parts = Parts.of(gaps[group].tolist(), range(len(gaps[group])))
            count = sum(row["kind"] == ATTRIBUTE and row["axis"] == axis for row in rows)
            yield finding(f"{NAME}.{axis}.{group}.{lang}", label, parts, seed, num_items=count)


def _sentences(rows: Sequence[Row], lang: str, seed: int) -> Iterator[Finding]:
    gaps = {domain: [row["nats"][0] - row["nats"][1] for row in rows if row["axis"] == domain]
            for domain in (WORK, HOME, NEUTRAL)}  # fmt: skip
    parts = Parts.contrast(gaps[WORK], gaps[HOME])
    label = text("bias-cf-work", lang=lang)
    yield finding(f"{NAME}.work-home.{lang}", label, parts, seed, num_items=len(gaps[WORK]) + len(gaps[HOME]))
    plain = Parts.of(gaps[NEUTRAL], range(len(gaps[NEUTRAL])))
    label = text("bias-cf-neutral", lang=lang)
    yield Finding(f"{NAME}.neutral.{lang}", label, len(gaps[NEUTRAL]), ratio(plain, seed), parts=plain)


def _attribute_examples(rows: Sequence[Row], lang: str) -> Iterator[Example]:
    """In each template and for each term: the group spoken of best, and the one spoken of worst."""
    alike: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        if row["kind"] == ATTRIBUTE:
            alike.setdefault((row["axis"], row["template"], row["term"]), []).append(row)
    for (axis, _, _), found in alike.items():
        best, worst = max(found, key=value), min(found, key=value)
        shown = [
            f"{row['texts'][0]} …{row['endings'][0].strip()} / {row['endings'][1].strip()}" for row in (best, worst)
        ]
        yield Example(f"{NAME}.{axis}.{lang}", value(best) - value(worst), "number", *shown)


def _sentence_examples(rows: Sequence[Row], lang: str) -> Iterator[Example]:
    for row in rows:
        if row["axis"] != NEUTRAL:
            yield Example(f"{NAME}.work-home.{lang}", row["nats"][0] - row["nats"][1], "number", *row["texts"])


SUITE = Suite(
    prepare=prepare,
    measure=measure,
    score=score,
    title="bias-title-counterfactual",
    method="bias-method-counterfactual",
    options=("axes", "templates", "max_tokens"),
)
