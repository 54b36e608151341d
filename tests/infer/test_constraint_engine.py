"""Constraints in the engine: whatever random weights say, an answer that ends is what was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from constrained import constraints, refusal, takes
from mixed import run
from schemas import random_schema
from test_sharing import small

from ingot import IngotError
from ingot.adapt.load import LanguageModel, load
from ingot.infer.constraint import compile as module
from ingot.infer.constraint.options import Constraint
from ingot.infer.constraint.proof import json_proof
from ingot.infer.constraint.schema import read_schema
from ingot.infer.engine import Engine, generate
from ingot.infer.generate import generate as generate_verb
from ingot.infer.sampling import Sampling
from ingot.infer.sequence import Sequence
from ingot.infer.speculation.options import Speculation
from tiny import CONFIGS, write_model, write_tokenizer

Tiny = Callable[..., LanguageModel]
PROMPT = "1 + 2 = "
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "名字": {"type": "string", "maxLength": 3},
        "color": {"enum": ["紅", "藍色", "green"]},
        "born": {"type": "string", "format": "date"},
        "size": {"type": "number", "minimum": 0.5, "maximum": 2, "multipleOf": 0.25},
    },
    "required": ["名字", "color", "born", "size"],
    "additionalProperties": False,
}
ALL: dict[str, dict[str, Any]] = {
    "schema": {"json_schema": PERSON, "strict": True},
    "regex": {"regex": "(是|否)[a-c]{2,4}\\d"},
    "choice": {"choice": ["是", "否", "不知道"]},
    "lark": {"grammar": 'start: "(" start ")" | WORD\nWORD: /[a-z]{1,3}/'},
    "gbnf": {"grammar": 'root ::= "(" root ")" | [a-z] | "是"'},
    "tools": {"tools": [{"name": "f", "parameters": PERSON}, {"name": "g"}], "parallel": False},
}


def hot(seed: int, **constraint: Any) -> Sampling:
    return Sampling(temperature=2, seed=seed, max_tokens=400, constraint=Constraint.of(**constraint))


def ask(model: LanguageModel, samplings: list[Sampling], num_slots: int = 8) -> list[Sequence]:
    return generate(model, [PROMPT] * len(samplings), samplings, num_slots)


@pytest.fixture(scope="module")
def model(tiny: Tiny) -> LanguageModel:
    return tiny("llama", 0, 512)


def check_random_schemas(model: LanguageModel, seeds: range) -> None:
    """Each is refused with its pointer before a token, or every answer that ends validates against the schema as it
    was given, and is proven; one that is cut says so."""
    asked, refused = [], 0
    for seed in seeds:
        schema, wild = random_schema(seed, wild=seed % 8 == 0), seed % 8 == 0
        message = refusal(json_schema=schema)
        assert message if wild else True
        refused += bool(message)
        assert not message or "cannot be enforced at #" in message
        if not message:
            asked.append(hot(seed, json_schema=schema))
    assert refused < len(seeds) // 3
    finished = 0
    for sampling, sequence in zip(asked, ask(model, asked), strict=True):
        assert sampling.constraint is not None
        assert sequence.error is None, sequence.error
        assert sequence.incomplete == (sequence.finish_reason == "length") or sequence.finish_reason == "length"
        if not sequence.incomplete:
            finished += 1
            assert json_proof(read_schema(sampling.constraint.json_schema))(sequence.text) is None
            json.loads(sequence.text)
    assert finished > len(asked) * 2 // 3


@pytest.mark.slow
def test_no_answer_fails_open(model: LanguageModel) -> None:
    check_random_schemas(model, range(12))


@pytest.mark.slow
def test_no_answer_fails_open_in_a_thousand_schemas(model: LanguageModel) -> None:
    check_random_schemas(model, range(1000, 2100))


@pytest.mark.parametrize("kind", ALL)
def test_answers_are_what_was_asked_for(model: LanguageModel, kind: str) -> None:
    for sequence in ask(model, [hot(seed, **ALL[kind]) for seed in range(4)]):
        assert sequence.finish_reason == "stop"
        assert sequence.incomplete is False
        assert takes(sequence.text, **ALL[kind])


@pytest.mark.slow
def test_tokens_are_the_same_alone_and_among_others(model: LanguageModel) -> None:
    samplings = [hot(seed, **constraint) for seed, constraint in enumerate(ALL.values())]
    samplings.insert(2, Sampling(temperature=2, seed=9, max_tokens=30))
    together = ask(model, samplings)
    for sampling, sequence in zip(samplings, together, strict=True):
        assert ask(model, [sampling])[0].tokens == sequence.tokens
    assert together[2].incomplete is None


@pytest.mark.slow
def test_tokens_are_the_same_where_they_are_guessed_and_where_memory_is_short(model: LanguageModel) -> None:
    """Several positions drawn in one step; sequences that give their memory away and are read again."""
    samplings = [hot(seed, **ALL[kind]) for seed, kind in enumerate(["schema", "lark", "schema", "regex"] * 2)]
    expected = [sequence.tokens for sequence in ask(model, samplings)]
    guessing = Speculation(kind="self", layers=1, tokens=4, always=True)
    engine = Engine(model, 8, memory=small(model, 9), speculation=guessing)
    found = [engine.submit(model.tokenizer.encode(PROMPT), sampling) for sampling in samplings]
    run(engine)
    assert [sequence.tokens for sequence in found] == expected
    assert all(sequence.error is None for sequence in found)
    assert engine.counters.preempted > 0
    assert engine.counters.accepted > 0


def test_a_mask_is_a_pure_function_of_the_tokens(model: LanguageModel) -> None:
    """Asked for again, after others, and along another copy: positions may be drawn several in one step."""
    sequence = ask(model, [hot(3, **ALL["schema"])])[0]
    first, second = (
        Engine(model).constraints.matcher(Constraint.of(**ALL["schema"]), model.eos_ids, False)  # type: ignore[union-attr]
        for _ in range(2)
    )
    for token in sequence.tokens:
        assert first.allowed()[token]
        assert np.array_equal(first.allowed(), second.allowed())
        assert first.accept(token)
        second.allowed()
        assert second.accept(token)
    assert first.must_end


def test_other_controls_still_act(model: LanguageModel) -> None:
    tokenizer = model.tokenizer
    wanted = {tokenizer.encode(letter)[0]: -100.0 for letter in "ab"}
    found = ask(model, [hot(seed, regex="[abc]{8}").model_copy(update={"logit_bias": wanted}) for seed in range(3)])
    assert [sequence.text for sequence in found] == ["cccccccc"] * 3
    greedy = hot(0, regex="[abc]{6}").model_copy(update={"temperature": 0.0})
    other = greedy.model_copy(update={"frequency_penalty": 2.0})
    assert ask(model, [greedy])[0].text != ask(model, [other])[0].text


def test_an_answer_that_is_cut_is_marked(model: LanguageModel) -> None:
    short = hot(0, **ALL["schema"]).model_copy(update={"max_tokens": 5})
    sequence = ask(model, [short])[0]
    assert (sequence.finish_reason, sequence.incomplete, sequence.error) == ("length", True, None)
    whole = ask(model, [hot(0, regex="a+b*").model_copy(update={"max_tokens": 3, "logit_bias": {0: -100.0}})])[0]
    assert (whole.finish_reason, whole.incomplete) == ("length", False)


def test_a_cancelled_answer_is_incomplete(model: LanguageModel) -> None:
    engine = Engine(model)
    sequence = engine.submit(model.tokenizer.encode(PROMPT), hot(0, **ALL["schema"]))
    engine.step()
    engine.cancel(sequence)
    assert sequence.incomplete


def test_the_end_comes_where_the_grammar_ends_and_min_tokens_gives_way(model: LanguageModel) -> None:
    """Where it may go on, min_tokens makes it; where nothing more can be said, it ends."""
    long = hot(0, regex="a{1,9}").model_copy(update={"min_tokens": 5})
    assert len(ask(model, [long])[0].tokens) >= 5
    ended = ask(model, [hot(0, regex="abc").model_copy(update={"min_tokens": 50})])[0]
    assert (ended.text, ended.finish_reason, ended.stop_reason) == ("abc", "stop", None)


@pytest.mark.parametrize("other", [{"stop": ["x"]}, {"ignore_eos": True}])
def test_what_would_end_it_elsewhere_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(IngotError, match="cannot go with a constraint"):
        Sampling.of(constraint={"regex": "a"}, **other)


def test_exactly_one_form_is_asked_for() -> None:
    for given in ({}, {"regex": "a", "choice": ["b"]}, {"json_object": True, "json_schema": {}}):
        with pytest.raises(IngotError, match="give one of json_object"):
            Constraint.of(**given)
    for given in ({"regex": "a", "strict": True}, {"regex": "a", "parallel": True}):
        with pytest.raises(IngotError, match="needs"):
            Constraint.of(**given)


def test_nothing_left_to_say_is_an_error_by_name_and_nobody_elses(model: LanguageModel) -> None:
    """A directory that bans the only letter the grammar wants."""
    banned = model.generation.banned_ids | {model.tokenizer.encode("b")[0]}
    engine = Engine(model)
    object.__setattr__(model.generation, "banned_ids", banned)
    try:
        dead = engine.submit(model.tokenizer.encode(PROMPT), hot(0, regex="ab"))
        alive = engine.submit(model.tokenizer.encode(PROMPT), hot(0, regex="ac"))
        run(engine)
    finally:
        object.__setattr__(model.generation, "banned_ids", banned - {model.tokenizer.encode("b")[0]})
    assert (dead.finish_reason, dead.text, dead.incomplete) == ("error", "a", True)
    assert dead.error is not None
    assert dead.error.code == "constraint-dead-end"
    assert len(dead.tokens) == 1
    assert alive.text == "ac"
    assert not engine.has_work


def test_a_text_that_is_not_what_was_asked_for_never_looks_like_success(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grammar that is laxer than the check."""
    monkeypatch.setitem(module.KINDS, "choice", lambda *_: ("start: /[ab]/", lambda text: "not that one"))
    sequence = ask(model, [hot(0, choice=["a"])])[0]
    assert (sequence.finish_reason, sequence.incomplete) == ("error", True)
    assert sequence.error is not None
    assert sequence.error.code == "constraint-not-met"


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("start: <eos>", "line 1: '<eos>'"),
        ('start: "a" x\nx: %json {"type": "null"}', "line 2: '%json'"),
        ('%llguidance {"lenient": true}\nstart: "a"', "%llguidance"),
        ('start: x\nx[max_tokens=3]: "a"', "line 2: 'x['"),
        ("start: @other", "@other"),
        ("start: nothing", 'unknown name: "nothing"'),
        ("begin: /a/", "start"),
        ("root ::= nothing", "GBNF"),
        ("start: " + "(" * 500, "nested"),
        ("x" * 300_000, "200000 are taken"),
    ],
)
def test_grammars_that_cannot_be_held_are_refused(grammar: str, reason: str) -> None:
    message = refusal(grammar=grammar)
    assert "the grammar cannot be enforced" in message
    assert reason in message


def test_what_is_quoted_in_a_grammar_is_no_syntax() -> None:
    grammar = 'start: "<a>" /%json|@x/ // <eos> @b\n'
    assert takes("<a>@x", grammar=grammar)


@pytest.mark.slow
def test_long_chains_of_rules_do_not_end_the_process() -> None:
    rules = "\n".join(f'a{at}: "x" a{at + 1} | "y"' for at in range(4000))
    assert refusal(grammar=f'start: a0\n{rules}\na4000: "z"') == ""
    parts = {f"d{at}": {"type": "array", "items": {"$ref": f"#/$defs/d{at + 1}"}} for at in range(4000)}
    assert refusal(json_schema={"$ref": "#/$defs/d0", "$defs": {**parts, "d4000": {"type": "null"}}}) == ""


def test_compiling_is_done_once() -> None:
    first = constraints().compiled(Constraint.of(regex="once[a-z]"))
    assert constraints().compiled(Constraint.of(regex="once[a-z]")) is first
    assert first.seconds > 0
    for number in range(module.KEPT):
        constraints().compiled(Constraint.of(regex=f"other{number}"))
    assert constraints().compiled(Constraint.of(regex="once[a-z]")) is not first


def test_models_without_a_tokenizer_or_the_characters_are_refused(tmp_path: Path, tiny_pair: Tiny) -> None:
    bare = load(write_model(tmp_path / "bare", CONFIGS["llama"], 0))
    with pytest.raises(IngotError, match="no text to hold to a constraint"):
        Engine(bare).submit([5], hot(0, regex="a"))


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_encoder_decoders_are_held_too(tiny_pair: Tiny, family: str) -> None:
    """BART's directory forces its first token, here one without text."""
    pair = tiny_pair(family, **({"forced_bos_token_id": 1} if family == "bart" else {}))
    for kind in ("schema", "regex", "lark"):
        for sequence in ask(pair, [hot(seed, **ALL[kind]) for seed in range(3)]):
            assert sequence.error is None
            assert sequence.incomplete or takes(sequence.text, **ALL[kind])


def test_a_forced_token_with_text_counts_as_text(tiny_pair: Tiny) -> None:
    """Token 9 is no digit: what the directory forces does not fit, and that is said."""
    sequence = ask(tiny_pair("bart"), [hot(0, regex="\\d")])[0]
    assert sequence.error is not None
    assert sequence.error.code == "constraint-dead-end"


def spaced_model(path: Path) -> LanguageModel:
    """A model whose tokenizer writes spaces as a sign and drops the one a text begins with, as Llama 2's does."""
    import tokenizers
    from tokenizers import decoders, normalizers, trainers

    model = tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>")
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["</s>", "<unk>", "<s>"], show_progress=False)
    made.train_from_iterator(['{"a": 1} the cat sat on a mat {"b": true} 天空 yes no'] * 4, trainer)
    described = json.loads(made.to_str())
    vocab = described["model"]["vocab"]
    vocab |= {f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)}
    made = tokenizers.Tokenizer.from_str(json.dumps(described))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    directory = write_tokenizer(path / "tok")
    made.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "bos_token": "<s>"}))
    config = CONFIGS["llama"] | {"vocab_size": made.get_vocab_size(), "max_position_embeddings": 512, "eos_token_id": 0}
    return load(write_model(path / "model", config, 0, directory))


@pytest.mark.slow
def test_a_dropped_space_at_the_beginning_is_reckoned_with(tmp_path: Path) -> None:
    """Behind <s> a text begins and loses its first space; behind a word it does not. Both are held exactly."""
    model = spaced_model(tmp_path)
    start, word = model.tokenizer.bos_id, model.tokenizer.encode("the cat")
    assert start is not None
    firsts = set()
    for prompt in ([start], word):
        for kind in ("schema", "choice", "lark"):
            samplings = [hot(seed, **ALL[kind]) for seed in range(6)]
            for sequence in generate(model, [prompt] * 6, samplings):
                assert sequence.error is None
                assert sequence.incomplete or takes(sequence.text, **ALL[kind])
                firsts.add((prompt == word, str(model.tokenizer.token(sequence.tokens[0]))[0] == "▁"))
    assert (False, True) in firsts  # "▁{" may begin a text,
    assert (True, True) not in firsts  # and may not go on with one, where its space would be shown
    spaced = generate(model, [[start]] * 6, [hot(seed, choice=[" a", " b"]) for seed in range(6)])
    assert {sequence.text for sequence in spaced} == {" a", " b"}


@pytest.mark.slow
def test_the_verb_takes_each_form_as_a_flag(model: LanguageModel, tmp_path: Path) -> None:
    reference = model.reference
    (tmp_path / "s.json").write_text(json.dumps(PERSON), encoding="utf-8")
    (tmp_path / "g.lark").write_text(str(ALL["lark"]["grammar"]), encoding="utf-8")
    forms = {
        "json_schema": (tmp_path / "s.json", ALL["schema"]),
        "regex": ("[ab]{3}", {"regex": "[ab]{3}"}),
        "grammar": (tmp_path / "g.lark", ALL["lark"]),
        "choice": (["是", "否"], {"choice": ["是", "否"]}),
    }
    for name, (value, constraint) in forms.items():
        done = generate_verb(model=reference, prompt=PROMPT, seed=1, max_tokens=400, answer={name: value})
        assert takes(done.texts[0], **constraint)
        assert done.summary()["incomplete"] is False
    cut = generate_verb(
        model=reference, prompt=PROMPT, seed=1, max_tokens=3, answer={"json_schema": tmp_path / "s.json"}
    )
    assert (cut.summary()["incomplete"], cut.summary()["finish_reason"]) == (True, "length")
    assert "incomplete" not in generate_verb(model=reference, prompt=PROMPT, seed=1, max_tokens=3).summary()


def test_the_verb_ends_in_an_error_where_the_answer_did(model: LanguageModel, tmp_path: Path, monkeypatch: Any) -> None:
    """One prompt: raised. Many: in each record, and a warning."""
    monkeypatch.setitem(module.KINDS, "choice", lambda *_: ("start: /[ab]/", lambda text: "not that one"))
    with pytest.raises(IngotError, match="must not be used"):
        generate_verb(model=model.reference, prompt=PROMPT, answer={"choice": ["a"]})
    prompts = tmp_path / "p.txt"
    prompts.write_text("one\ntwo\n")
    done = generate_verb(model=model.reference, prompts_file=prompts, answer={"choice": ["a"]})
    assert all("must not be used" in row["error"] and row["incomplete"] for row in done.records())
    with pytest.raises(IngotError, match="no file"):
        generate_verb(model=model.reference, prompt=PROMPT, answer={"grammar": tmp_path / "none"})
