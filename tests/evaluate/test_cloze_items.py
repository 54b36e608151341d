"""Items of a world: true, answerable, balanced, the same every time; items of a file: checked line by line."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
from evaluating import options_for, write_lines

import ingot
from ingot.core.errors import IngotError
from ingot.data.world.truth import choose_fillers, read_truth
from ingot.evaluate.cloze.from_world import world_directory, world_items
from ingot.evaluate.cloze.item import AFTER, BEFORE, Item
from ingot.evaluate.cloze.task import prepare

ITEM: dict[str, Any] = {
    "id": "1", "lang": "en", "group": "before", "before": "A is ", "fillers": ["b", "c"], "after": ".", "right": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cloze") / "world"
    ingot.world(out=path, people=10, places=8, copies=3, asks=1, heldout=10, seed=4)
    return path


@pytest.fixture(scope="module")
def items(made: Path) -> list[Item]:
    return world_items(made, 4)


def facts(made: Path) -> dict[tuple[str, str, str], str]:
    """{(entity, relation, language): value}, from the file itself."""
    truth = json.loads((made / "truth.json").read_text(encoding="utf-8"))
    return {
        (str(number), relation, language): value[language]
        for number, entity in enumerate(truth["entities"])
        for relation, value in entity["facts"].items()
        for language in truth["languages"]
    }


def test_every_fact_is_asked_twice_in_each_language(items: list[Item], made: Path) -> None:
    asked = Counter((item.subject, *item.id.split("/")[1:3]) for item in items)
    assert asked == dict.fromkeys(facts(made), 2)
    assert Counter(item.group for item in items) == {BEFORE: len(items) / 2, AFTER: len(items) / 2}
    assert len({item.id for item in items}) == len(items)


def test_the_right_filler_is_the_truth_and_the_others_are_not(items: list[Item], made: Path) -> None:
    known = facts(made)
    values = defaultdict(list)
    for (subject, relation, language), value in known.items():
        values[relation, language].append((subject, value.lower()))
    for item in items:
        _, relation, language, subject = item.id.split("/")
        fillers = [filler.lower() for filler in item.fillers]
        assert fillers[item.right] == known[subject, relation, language].lower()
        assert len(set(fillers)) == len(fillers)
        told = Counter(value for _, value in values[relation, language])
        assert item.counts == [told[filler] for filler in fillers]


def test_the_name_stands_on_the_side_that_decides(items: list[Item], made: Path) -> None:
    truth = read_truth(made / "truth.json")
    for item in items:
        name = truth.entities[int(item.subject)].name[item.lang]  # type: ignore[index]
        assert (name in item.before, name in item.after) == (item.group == BEFORE, item.group == AFTER)


def test_both_groups_ask_a_fact_with_the_same_fillers(items: list[Item]) -> None:
    pairs = defaultdict(list)
    for item in items:
        pairs[item.id.split("/", 1)[1]].append(([filler.lower() for filler in item.fillers], item.right))
    assert all(first == second for first, second in pairs.values())


def test_no_false_sentence_is_ever_told_and_seen_ones_are(items: list[Item], made: Path) -> None:
    """Against every file of the world, by a plain search."""
    texts = [json.loads(line)["text"] for line in (made / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    for item in items:
        told = [any(f"{item.before}{filler}{item.after}" in text for text in texts) for filler in item.fillers]
        assert told[item.right] == item.seen
        assert not any(found for number, found in enumerate(told) if number != item.right)
    assert {item.seen for item in items} == {True, False}


def test_same_world_same_items_and_fewer_fillers(items: list[Item], made: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(made, tmp_path / "elsewhere")
    assert world_items(moved, 4) == items
    pairs = world_items(made, 2)
    assert {len(item.fillers) for item in pairs} == {2}
    assert max(len(item.fillers) for item in items) == 4
    assert max(len(item.fillers) for item in world_items(made, 9)) <= 9


def test_a_sentence_begins_with_a_capital(items: list[Item]) -> None:
    english = [item for item in items if item.lang == "en"]
    assert all((item.before or filler)[0].isupper() or (item.before or filler)[0].isdigit()
               for item in english for filler in item.fillers)  # fmt: skip
    assert any(not item.before for item in english)


def test_length_gives_nothing_away() -> None:
    """Fillers are neighbours in length, and the right one is as often the shortest as the longest of them."""
    values = ["x" * size for size in range(1, 41)]
    places = Counter()
    for number in range(4000):
        rng = Random(number)
        right = values[rng.randrange(3, 37)]
        chosen = sorted(choose_fillers(values, right, 4, rng), key=len)
        assert [len(one) for one in chosen] == list(range(len(chosen[0]), len(chosen[0]) + 4))
        places[chosen.index(right)] += 1
    assert all(900 < places[place] < 1100 for place in range(4)), places
    orders = [choose_fillers(values, values[9], 4, Random(number)) for number in range(2000)]
    shortest = Counter(order.index(min(order)) for order in orders)
    assert all(400 < shortest[place] < 600 for place in range(4)), shortest


def test_few_values_give_few_fillers() -> None:
    assert sorted(choose_fillers(["b", "a"], "a", 4, Random(0))) == ["a", "b"]


def test_where_the_world_is(made: Path, tmp_path: Path) -> None:
    for options in (options_for(made), options_for(made / "heldout.jsonl"), options_for(None, world=made)):
        assert world_directory(options) == made
    for options in (options_for(None), options_for(tmp_path / "x.txt"), options_for(made, world=tmp_path)):
        with pytest.raises(IngotError) as error:
            world_directory(options)
        assert error.value.code == "evaluate-no-truth"


def test_limit_keeps_groups_and_languages(made: Path) -> None:
    chosen = prepare(options_for(made, limit=40))
    assert set(Counter((item.group, item.lang) for item in chosen).values()) == {10}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda truth: truth.pop("entities"), "entities"),
        (lambda truth: truth["entities"][0].pop("name"), "entities.0.name"),
        (lambda truth: truth["entities"][0]["facts"].update(shoe={"en": "7", "zh": "7"}), "'shoe'"),
        (lambda truth: truth["dials"].pop("seed"), "seed"),
        (lambda truth: truth.update(languages=["fr"]), "languages.0"),
    ],
)
def test_a_damaged_truth_table_is_named(made: Path, tmp_path: Path, change: Any, words: str) -> None:
    world = shutil.copytree(made, tmp_path / "world")
    truth = json.loads((world / "truth.json").read_text(encoding="utf-8"))
    change(truth)
    (world / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    with pytest.raises(IngotError, match=words) as error:
        world_items(world, 4)
    assert error.value.code == "evaluate-bad-truth"
    assert "truth.json" in str(error.value)


def test_a_truth_table_that_is_no_json_is_named(made: Path, tmp_path: Path) -> None:
    world = shutil.copytree(made, tmp_path / "world")
    (world / "truth.json").write_text("{oops")
    with pytest.raises(IngotError) as error:
        world_items(world, 4)
    assert error.value.code == "evaluate-bad-truth"


def test_a_world_in_which_all_are_alike_has_no_gaps(made: Path, tmp_path: Path) -> None:
    world = shutil.copytree(made, tmp_path / "world")
    truth = json.loads((world / "truth.json").read_text(encoding="utf-8"))
    truth["entities"] = truth["entities"][:1]
    (world / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    with pytest.raises(IngotError) as error:
        world_items(world, 4)
    assert error.value.code == "evaluate-cloze-empty"


def test_items_of_a_file(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "items.jsonl", [ITEM, ITEM | {"id": "2", "lang": "zh", "subject": "x", "seen": True}])
    first, second = prepare(options_for(None, cloze={"items": path}))
    assert first.model_dump() == ITEM | {"subject": "", "counts": None, "seen": None}
    assert (second.lang, second.subject, second.seen) == ("zh", "x", True)
    with pytest.raises(IngotError) as error:
        prepare(options_for(None, cloze={"items": path, "fillers": 4}))
    assert error.value.code == "evaluate-fillers-unused"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"right": 2}, "right is 2"),
        ({"right": -1}, "right"),
        ({"fillers": ["b"]}, "fillers"),
        ({"fillers": ["b", "b"]}, "must differ"),
        ({"fillers": ["b", ""]}, "empty"),
        ({"counts": [1]}, "1 counts for 2 fillers"),
        ({"group": "be fore"}, "group"),
        ({"lang": ""}, "lang"),
        ({"befor": "A"}, "befor"),
        ({"before": None}, "before"),
        ({"id": "0"}, "repeats"),
    ],
)
def test_bad_items_are_named_by_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write_lines(tmp_path / "items.jsonl", [ITEM | {"id": "0"}, ITEM | change])
    with pytest.raises(IngotError, match="line 2") as error:
        prepare(options_for(None, cloze={"items": path}))
    assert words in str(error.value)
    assert "Value error" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name, code in (("none.jsonl", "no-such-file"), ("items.txt", "evaluate-no-questions")):
        with pytest.raises(IngotError, match=name) as error:
            prepare(options_for(None, cloze={"items": tmp_path / name}))
        assert error.value.code == code
