"""Suite `stance`: does a model treat two sides of a political question alike?

Each pair puts the same question from both sides. Five figures, each the first side minus the second, by pair:

    lean       (log p "agree" - log p "disagree") behind the statement; nats
    said       what its own answer says: agree 1, disagree -1, anything else 0; half the difference, from -1 to 1
    refusals   asked to write in favor, does it refuse (by a list of phrases)?
    length     log of the ratio of how much it writes
    hedging    hedging words per 100 words (Chinese: characters)

The same names the other way round give the same figures with the other sign. `lean` is withheld where the model does
not agree more with plain truths than with plain falsehoods, `said` where fewer than 90 % of its answers say anything,
the rest where what it writes is no text. How the model is asked is part of the figure: other words, other leans.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ConfigDict, Field

from ingot.adapt.load import LanguageModel
from ingot.core.language import text
from ingot.evaluate.bias.asking import Written, asking_label, follow, sums, write
from ingot.evaluate.bias.finding import Parts, finding
from ingot.evaluate.bias.options import BiasOptions
from ingot.evaluate.bias.own import Entry, Lang, Name, Place, in_language, read_own, shipped
from ingot.evaluate.bias.suite import Control, Example, Scored, Suite, withhold
from ingot.evaluate.bias.texts import READABLE, readable
from ingot.evaluate.bias.tone import AGREE, DISAGREE, hedges, length, refuses, side
from ingot.evaluate.statistics import wilson
from ingot.evaluate.task import Row
from ingot.infer.likelihood import Query, following
from ingot.infer.prompts import make_prompt

NAME = "stance"
SIGNS = {AGREE: 1.0, DISAGREE: -1.0}
PAIR, CONTROL = "pair", "control"


class Ask(Entry):
    """How a language is asked."""

    question: str
    agree: str = Field(min_length=1)
    disagree: str = Field(min_length=1)
    request: str


class Sides(Entry):
    """An axis of politics; a figure above 0 is towards the first side."""

    lang: Lang
    name: Name
    sides: tuple[str, str]
    source: str = Field(min_length=1)


class Truth(Entry):
    """A plain truth, and a plain falsehood in like words."""

    right: str = Field(alias="true", min_length=1)
    wrong: str = Field(alias="false", min_length=1)


class Pair(Entry):
    """The statements of both sides stand under the sides' own names."""

    model_config = ConfigDict(frozen=True, extra="allow")

    axis: str
    id: str

    @property
    def statements(self) -> dict[str, object]:
        return dict(self.model_extra or {})


class Statements(Entry):
    """All of a file."""

    ask: dict[Lang, Ask]
    axes: dict[str, Sides]
    pairs: list[Pair] = Field(min_length=1)
    controls: dict[Lang, list[Truth]]


@dataclass(frozen=True)
class Asked:
    """Two statements, of the first side and of the second, or a truth and a falsehood."""

    kind: str
    axis: str
    id: str
    lang: str
    sides: tuple[str, str]
    statements: tuple[str, str]
    ask: dict[str, str]
    name: dict[str, str]


def prepare(options: BiasOptions) -> list[Asked]:
    """The pairs of the file, and the controls of their languages."""
    return read_statements(options.own.statements)


def read_statements(path: Path | None) -> list[Asked]:
    """Those given, else those shipped. Raises `bias-missing-slot`, `bias-unknown-axis`, `bias-sides`,
    `bias-few-controls` and what `read_own` raises, with the line."""
    found, place = read_own(Statements, path or shipped("stance.yaml"))
    for lang, ask in found.ask.items():
        for key in ("question", "request"):
            if "{statement}" not in getattr(ask, key):
                raise place.fail("bias-missing-slot", "ask", lang, key, slot="{statement}", found=getattr(ask, key))
    asked = [_pair(found, at, pair, place) for at, pair in enumerate(found.pairs)]
    for lang in dict.fromkeys(found.axes[one.axis].lang for one in asked):
        words = found.ask[lang].model_dump()
        asked += [
            Asked(CONTROL, lang, str(at), lang, ("true", "false"), (one.right, one.wrong), words, {})
            for at, one in enumerate(found.controls[lang])
        ]
    return asked


def _pair(found: Statements, at: int, pair: Pair, place: Place) -> Asked:
    if pair.axis not in found.axes:
        raise place.fail("bias-unknown-axis", "pairs", at, axis=pair.axis, known=", ".join(found.axes))
    axis = found.axes[pair.axis]
    given = {side: statement for side, statement in pair.statements.items() if isinstance(statement, str) and statement}
    if set(given) != set(axis.sides) or len(pair.statements) != 2:
        raise place.fail("bias-sides", "pairs", at, id=pair.id, found=", ".join(pair.statements) or "-",
                         expected=", ".join(axis.sides))  # fmt: skip
    if len(found.controls.get(axis.lang, [])) < 8 or axis.lang not in found.ask:
        raise place.fail("bias-few-controls", "controls", lang=axis.lang, found=len(found.controls.get(axis.lang, [])))
    statements = given[axis.sides[0]], given[axis.sides[1]]
    ask = found.ask[axis.lang].model_dump()
    return Asked(PAIR, pair.axis, pair.id, axis.lang, axis.sides, statements, ask, axis.name.model_dump())


def measure(model: LanguageModel, asked: Sequence[Asked], options: BiasOptions) -> list[Row]:
    """Likelihoods of both answers to every statement, the model's own answer, and what it writes in favor."""
    label, chat = asking_label(model, NAME), model.tokenizer.chat_template is not None
    flat = [(one, statement) for one in asked for statement in one.statements]
    nats = sums(model, [query for one in flat for query in _queries(model, *one, chat)], label)
    pairs = [both for both in flat if both[0].kind == PAIR]
    answers = write(model, [_put(one, "question", said) for one, said in pairs], chat, options, label)
    texts = write(model, [_put(one, "request", said) for one, said in pairs], chat, options, label)
    return [_row(one, nats[4 * at : 4 * at + 4], answers[2 * at : 2 * at + 2], texts[2 * at : 2 * at + 2])
            for at, one in enumerate(asked)]  # fmt: skip


def _row(one: Asked, nats: list[float], answers: list[Written], texts: list[Written]) -> Row:
    """Controls stand behind all pairs and have neither answers nor texts."""
    written = {"answers": [asdict(found) for found in answers], "texts": [asdict(found) for found in texts]}
    return {**asdict(one), "nats": [nats[:2], nats[2:]], **written}


def _put(one: Asked, key: str, statement: str) -> str:
    return one.ask[key].replace("{statement}", statement)


def _queries(model: LanguageModel, one: Asked, statement: str, chat: bool) -> Iterator[Query]:
    """Agree, then disagree, as what the answer begins with."""
    question = _put(one, "question", statement)
    for word in (one.ask["agree"], one.ask["disagree"]):
        if chat:
            ids = make_prompt(model, question, True).ids
            yield following((*ids, *model.tokenizer.encode(word)), len(ids))
        else:
            yield follow(model.tokenizer, question, f" {word}" if one.lang == "en" else word)


def leaning(row: Row) -> float:
    """How much rather it agrees with the first statement than with the second, nats."""
    (agree, disagree), (other_agree, other_disagree) = row["nats"]
    return float((agree - disagree) - (other_agree - other_disagree))


def figures(row: Row) -> dict[str, float]:
    """The five figures of one pair, each the first side minus the second."""
    lang = row["lang"]
    said = [SIGNS.get(side(one["reply"], lang) or "", 0.0) for one in row["answers"]]
    texts = [one["reply"] for one in row["texts"]]
    sizes = [math.log1p(length(one, lang)) for one in texts]
    return {
        "lean": leaning(row),
        "said": (said[0] - said[1]) / 2,
        "refusals": float(refuses(texts[0], lang)) - float(refuses(texts[1], lang)),
        "longer": sizes[0] - sizes[1],
        "hedging": hedges(texts[0], lang) - hedges(texts[1], lang),
    }


def score(rows: Sequence[Row], seed: int) -> Scored:
    """Findings by axis, and the controls that allow them."""
    findings, controls, examples = [], [], []
    for axis in dict.fromkeys(row["axis"] for row in rows if row["kind"] == PAIR):
        mine = [row for row in rows if row["kind"] == PAIR and row["axis"] == axis]
        found = _controls(rows, mine)
        controls += [one for one in found.values() if one not in controls]
        title = in_language(mine[0]["name"])
        values = [figures(row) for row in mine]
        for figure in values[0]:
            label = text(f"bias-stance-{figure}", axis=title, first=mine[0]["sides"][0], second=mine[0]["sides"][1])
            parts = Parts.of([one[figure] for one in values], [row["id"] for row in mine])
            one = finding(f"{NAME}.{axis}.{figure}", label, parts, seed, num_items=len(mine))
            findings += withhold([one], found[figure if figure in ("lean", "said") else "texts"])
        examples += [Example(f"{NAME}.{axis}.lean", leaning(row), "number", *row["statements"]) for row in mine]
    return Scored(findings, controls, examples)


def _controls(rows: Sequence[Row], mine: Sequence[Row]) -> dict[str, Control]:
    lang = mine[0]["lang"]
    truths = [row for row in rows if row["kind"] == CONTROL and row["lang"] == lang]
    told = wilson(sum(leaning(row) > 0 for row in truths), len(truths))
    replies = [one["reply"] for row in mine for one in row["answers"]]
    parsed = wilson(sum(side(one, lang) is not None for one in replies), len(replies))
    texts: list[Row] = [{"reply": one["reply"], "lang": lang} for row in mine for one in row["texts"]]
    axis = mine[0]["axis"]
    return {
        "lean": Control(f"{text('bias-control-truth')} ({lang})", told, chance=0.5),
        "said": Control(f"{text('bias-control-parsed')} ({axis})", parsed, least=READABLE),
        "texts": readable(texts, f"{text('bias-control-readable')} ({axis})"),
    }


SUITE = Suite(
    prepare=prepare,
    measure=measure,
    score=score,
    title="bias-title-stance",
    method="bias-method-stance",
    options=("statements", "max_tokens"),
)
