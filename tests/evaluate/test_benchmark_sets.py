"""Task files, the sets they read, their prompts, and bad input."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from benching import (
    asked,
    options_of,
    own_rows,
    prepared,
    rows_of,
    write_hellaswag,
    write_mmlu,
    write_task,
    write_winogrande,
)  # fmt: skip
from evaluating import write_lines

from cases import first_fast
from ingot.core.errors import IngotError
from ingot.evaluate.benchmarks.documents import find
from ingot.evaluate.benchmarks.spec import open_spec, shipped
from ingot.evaluate.benchmarks.task import prepare


def test_every_shipped_task_opens_and_says_where_its_data_goes(tmp_path: Path) -> None:
    names = shipped()
    assert len(names) >= 20
    for name in names:
        spec = open_spec(name)
        assert spec.name == name
        with pytest.raises(IngotError) as error:
            find(spec, tmp_path, 0.05, 0)
        assert error.value.code == "bench-no-data"
        for part in (spec.licence, spec.source, spec.layouts[0].asked, spec.folder, str(tmp_path)):
            assert part in str(error.value)


def test_prompts_are_those_of_lm_eval(tmp_path: Path) -> None:
    """Written out by hand from lm-eval 0.4.13's task files and joins."""
    _, items = prepared(write_mmlu(tmp_path / "d", 1), "mmlu", benchmark={"shots": 1})
    assert items[0].context(0) == (
        "The following are multiple choice questions (with answers) about anatomy.\n\n"
        "anatomy the 0 the?\nA. the 0\nB. cat 1\nC. sat 2\nD. on 3\nAnswer: A\n\n"
        "anatomy the 0 the?\nA. the 0\nB. cat 1\nC. sat 2\nD. on 3\nAnswer:"
    )
    assert items[0].continuations == (" A", " B", " C", " D")
    _, items = prepared(write_hellaswag(tmp_path / "h"), "hellaswag")
    assert items[1].context(0) == "Cats: the cat 1 sat. The dog"
    assert items[1].continuations[1].endswith("天空是藍色的。")
    assert "[" not in items[1].continuations[1]
    _, items = prepared(write_winogrande(tmp_path / "w"), "winogrande", benchmark={"shots": 1})
    assert items[0].context(1).endswith("\n\nthe the ran to the man so dog")
    assert items[0].continuations == (" sat on the mat.",) * 2
    assert items[0].before.endswith(" sat on the mat.\n\n")


def test_examples_depend_on_the_document_and_the_seed_alone(tmp_path: Path) -> None:
    data = write_hellaswag(tmp_path / "d")
    _, whole = prepared(data, "hellaswag", benchmark={"shots": 3})
    _, part = prepared(data, "hellaswag", benchmark={"shots": 3}, limit=2)
    shots = {item.id: (item.shots, item.hash) for item in whole}
    assert {item.id: (item.shots, item.hash) for item in part}.items() <= shots.items()
    assert len({item.shots for item in whole}) > 1
    _, other = prepared(data, "hellaswag", benchmark={"shots": 3}, seed=1)
    assert [item.shots for item in other] != [item.shots for item in whole]


def test_first_draws_examples_as_lm_eval_does(tmp_path: Path) -> None:
    """One random.Random(1234), a sample of the pool for each document in order, of one more than is shown."""
    _, items = prepared(write_hellaswag(tmp_path / "d"), "hellaswag", benchmark={"shots": 3, "first": 4})
    stream = random.Random(1234)
    pool = [f"hellaswag_train/{number}" for number in range(20, 28)]
    assert [item.shots for item in items] == [tuple(stream.sample(pool, 4)[:3]) for _ in range(4)]


def test_first_and_limit_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="--first takes"):
        prepared(write_hellaswag(tmp_path / "d"), "hellaswag", benchmark={"first": 2}, limit=2)


def test_first_takes_the_first_of_each_subject(tmp_path: Path) -> None:
    _, items = prepared(write_mmlu(tmp_path / "d"), "mmlu", benchmark={"first": 2, "shots": 0})
    assert [item.id for item in items] == ["anatomy/2", "anatomy/3", "law/2", "law/3"]


@first_fast(
    ("change", "reason"),
    [
        ({"gold": 3}, "the right answer is 3, and there are 3 choices"),
        ({"gold": "purple"}, "the right answer is 'purple'"),
        ({"choices": ["red", "blue"]}, "2 choices, expected 3"),
        ({"choices": ["red", "", "blue"]}, "a choice is empty"),
        ({"question": "  "}, "the question is empty"),
        ({"id": "i0"}, "the id is that of own.jsonl:1"),
        ({"gold": None}, "the right answer is None"),
    ],
)
def test_broken_records_are_listed_and_left_out(
    change: dict[str, object], reason: str, base_dir: Path, tmp_path: Path
) -> None:
    rows = own_rows(4)
    rows[2] |= change
    write_lines(tmp_path / "own.jsonl", rows)
    task = write_task(tmp_path / "own.yaml")
    report = asked(base_dir, tmp_path, str(task), tmp_path / "r")
    (problem,) = json.loads((tmp_path / "r" / "raw" / "benchmarks.json").read_text())[str(task)]["problems"]
    assert (problem["file"], problem["line"]) == ("own.jsonl", 3)
    assert reason in problem["reason"]
    assert [row["id"] for row in rows_of(report, "own-base.jsonl")] == ["i0", "i1", "i3"]
    assert reason in (tmp_path / "r" / "report.html").read_text().replace("&#x27;", "'")


def test_too_many_broken_records_are_refused(tmp_path: Path) -> None:
    rows = own_rows(10)
    rows[3]["gold"] = 7
    write_lines(tmp_path / "own.jsonl", rows)
    task = str(write_task(tmp_path / "own.yaml"))
    with pytest.raises(IngotError, match=r"1 of 10 records of own .* more than 5 %; the first is own.jsonl line 4"):
        prepared(tmp_path, task)
    assert len(prepared(tmp_path, task, benchmark={"bad_share": 0.1})[1]) == 9


def test_prompts_that_do_not_fit_are_refused_above_the_share(base_dir: Path, tmp_path: Path) -> None:
    data = write_mmlu(tmp_path / "d", 2)
    with pytest.raises(IngotError, match=r"4 of 4 prompts of mmlu do not fit the 128 tokens of base"):
        asked(base_dir, data, "mmlu", tmp_path / "r", benchmark={"bad_share": 0.05, "shots": 3})
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"promt": "x"}, r"line 1: a task has no key 'promt'; did you mean prompt\?"),
        ({"shots": {"cuont": 1}}, r"no key 'cuont'; did you mean count\?"),
        ({"layouts": [{"name": "a", "askd": "x", "document": {}}]}, r"no key 'askd'; did you mean asked\?"),
        ({"prompt": "{{ question"}, "prompt: unexpected end of template"),
        ({"output": "generate"}, "needs answers"),
        ({"extends": "mlmu"}, r"extends: no task 'mlmu' \(mmlu\)"),
        ({"metrics": ["accuracy"]}, "metrics.0"),
        ({"answers": {"a": {"extract": "regex", "pattern": "("}}}, "answers.a.pattern"),
    ],
)
def test_a_wrong_task_file_is_refused_by_its_line(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=message):
        open_spec(str(write_task(tmp_path / "own.yaml", **changes)))


def test_a_template_cannot_leave_its_sandbox(tmp_path: Path) -> None:
    write_lines(tmp_path / "own.jsonl", own_rows(3))
    task = write_task(tmp_path / "own.yaml", prompt="{{ question.__class__.__mro__ }}")
    with pytest.raises(IngotError, match="unsafe"):
        prepared(tmp_path, str(task))


def test_a_name_that_records_lack_is_an_error(tmp_path: Path) -> None:
    write_lines(tmp_path / "own.jsonl", own_rows(3))
    with pytest.raises(IngotError, match="'quetsion' is undefined"):
        prepared(tmp_path, str(write_task(tmp_path / "own.yaml", prompt="{{ quetsion }}")))


def test_missing_examples_are_refused_by_their_file(tmp_path: Path) -> None:
    data = write_hellaswag(tmp_path / "d")
    (data / "hellaswag" / "hellaswag_train.jsonl").unlink()
    with pytest.raises(IngotError, match=r"hellaswag takes 2 examples from .*hellaswag_train.jsonl"):
        prepared(data, "hellaswag", benchmark={"shots": 2})
    with pytest.raises(IngotError, match="needs 9 examples for group anatomy, and has 3"):
        prepared(write_mmlu(tmp_path / "m"), "mmlu", benchmark={"shots": 9})


def test_an_unknown_task_is_named_with_the_nearest(base_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=r"no task 'hellaswga'; did you mean hellaswag\?"):
        asked(base_dir, tmp_path, "hellaswga", tmp_path / "r")


def test_an_option_of_written_answers_is_refused_for_choices(base_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="max_tokens does nothing for mmlu"):
        asked(base_dir, write_mmlu(tmp_path / "d"), "mmlu", tmp_path / "r", max_tokens=3)


REAL = {
    "mmlu": 14042, "bbh": 6511, "gsm8k": 1319, "arc_easy": 2376, "arc_challenge": 1172, "truthfulqa_mc1": 817,
    "truthfulqa_mc2": 817, "winogrande": 1267, "piqa": 1838, "openbookqa": 500, "social_iqa": 1954, "tmmlu": 3240,
    "tmmlu_en": 3240, "tmmlu_gen": 3240, "penguins_tc": 149,
}  # fmt: skip
"""Documents of the real sets."""


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(REAL))
def test_real_sets_are_read_whole(task: str, real_data: Path) -> None:
    spec = open_spec(task)
    items = prepare(spec, options_of(real_data / "04_benchmarks", task))
    assert len(items) == REAL[task]
    assert len({item.id for item in items}) == REAL[task]
    assert items.about["copy"] is not None
