"""The command line: light help, exit statuses, one JSON line at the end, help in both languages."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_verbs import Said, Shop

from ingot import cli
from ingot.core.language import read_yaml
from ingot.core.options import Options
from ingot.core.verbs import VERBS, find_verb

HEAVY = ("torch", "pydantic", "cyclopts", "numpy", "matplotlib", "transformers")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop()
    monkeypatch.setattr(cli, "find_verb", lambda name: shop.find({"world": "make", "guard": "look"}.get(name, name)))
    return shop


def test_help_imports_nothing_heavy() -> None:
    script = (
        f"import sys; from ingot.cli import main; main(['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(verb in done.stdout for verb in VERBS)


def test_help_is_chinese_when_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_LANG", "zh-TW")
    assert cli.main([]) == 0
    assert "從文字預訓練一個模型" in capsys.readouterr().out
    assert cli.main(["run", "--help"]) == 0
    assert "配方，一個 YAML 檔" in capsys.readouterr().out


def test_last_line_is_one_json_object(shop: Shop, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["world", str(tmp_path / "世界"), "--people", "2"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(line) == {"path": str(tmp_path / "世界"), "people": 2}
    assert "世界" in line


def test_failed_verdict_is_exit_status_1(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["guard", "x", "--no-verdict"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["passed"] is False


def test_help_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--help"]) == 0
    printed = capsys.readouterr().out
    named = [line.strip().split("  ")[0] for line in printed.splitlines() if line.startswith("  plan")]
    assert named == ["plan memory", "plan params", "plan scale"]
    assert "pretrain" not in printed


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["wrold"], 2, "'wrold'; did you mean world? [unknown-verb]"),
        (["plan"], 2, "no verb 'plan'; there are plan memory, plan params, plan scale [verb-group]"),
        (["adapters", "merge", "x"], 2, "'adapters merge'; there are merge, adapters add, adapters extract, "),
        (["world", "x", "--peeple", "3"], 2, "did you mean --people? [unknown-option]"),
        (["world"], 2, "[missing-option]"),
        (["world", "x", "--people", "many"], 2, "[bad-command-line]"),
        (["world", "x", "y"], 2, "[bad-command-line]"),
        (["world", "x", "--people", "0"], 1, "'people' was 0"),
        (["show", "/nowhere/at/all"], 1, "there is no directory /nowhere/at/all [no-such-directory]"),
    ],
)
def test_mistakes(arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str],
                  request: pytest.FixtureRequest) -> None:  # fmt: skip
    if arguments[0] == "world":
        request.getfixturevalue("shop")
    assert cli.main(arguments) == status
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="wrold"):
        cli.main(["wrold", "--debug"])


def test_interruption_and_surprise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def raises(error: BaseException) -> Any:
        def run(*_: object) -> Said:
            raise error

        return run

    monkeypatch.setattr(cli, "run_verb", raises(KeyboardInterrupt()))
    assert cli.main(["show", "x"]) == 130
    monkeypatch.setattr(cli, "run_verb", raises(RuntimeError("boom")))
    assert cli.main(["show", "x"]) == 1
    assert "RuntimeError: boom" in capsys.readouterr().err


def test_verbs_of_two_words() -> None:
    assert cli.split_verb(["tokenizer", "train", "x"]) == ("tokenizer train", ["x"])
    assert cli.split_verb(["show", "x"]) == ("show", ["x"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip()[0].isdigit()


HELP = read_yaml((Path(cli.__file__).parent / "core/help.yaml").read_text(encoding="utf-8"))


def test_every_verb_has_its_line_in_both_languages() -> None:
    assert set(VERBS) <= set(HELP)
    assert all({"summary", "summary-zh"} <= set(HELP[name]) for name in VERBS)


def test_every_group_of_options_has_chinese_help() -> None:
    """What is no verb in help.yaml is a group that some verb has, and the other way round."""
    groups = {
        field.annotation
        for name in VERBS
        for field in find_verb(name).options.model_fields.values()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Options)
    }
    assert {group.__name__ for group in groups} == set(HELP) - set(VERBS)
    for group in groups:
        assert set(group.model_fields) == set(HELP[group.__name__])


def test_chinese_help_reaches_the_groups(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("INGOT_LANG", "zh")
    assert cli.main(["pretrain", "--help"]) == 0
    found = capsys.readouterr().out
    assert "矩陣的權重衰減" in found
    assert "decay of matrices" not in found


@pytest.mark.parametrize("name", VERBS)
def test_options_of_a_verb(name: str) -> None:
    """At most 15 flags beside groups, each with a line of help in English and in Chinese, and no help for what does not
    exist."""
    module = VERBS[name].partition(":")[0]
    if not (Path(cli.__file__).parent / ("/".join(module.split(".")[1:]) + ".py")).exists():
        pytest.skip(f"{module} is not there")
    fields = find_verb(name).options.model_fields
    groups = [f for f in fields.values() if isinstance(f.annotation, type) and issubclass(f.annotation, Options)]
    assert len(fields) - len(groups) <= 15
    assert all(field.description for field in fields.values())
    assert set(fields) == set(HELP[name]) - {"summary", "summary-zh"}
    assert not set(fields) & {"verb", "gates"}, "names that recipes use themselves"


def test_nothing_outside_the_line_prints_to_stdout() -> None:
    """The last line stays the JSON object: only the command line and verbs that talk may print."""
    allowed = {"cli.py", "progress.py", "chat.py", "generate.py"}
    for path in Path(cli.__file__).parent.rglob("*.py"):
        if path.name in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"), f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--loop.clip -1", "option 'loop.clip' was '-1': Input should be greater than or equal to 0 [bad-option]"),
        ("--loop.decay 0.3", "decay acts only with schedule wsd, not cosine [options-conflict]"),
        ("--search.share 0.5", "acts only with --search.trials or --search.minutes [options-conflict]"),
    ],
)
def test_mistakes_in_groups_are_one_sentence(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", "x", "--data", "y", "--out", "z", *words.split()]) == 1
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
