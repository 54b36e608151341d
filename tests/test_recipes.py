"""The recipes that come along pass every check that is made before the first step runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingot.core.recipe_plan import plan
from ingot.core.verbs import find_verb

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
SETTINGS = {"text": ["folder={folder}"]}
"""Inputs that must be given."""


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_can_be_run(recipe: Path, tmp_path: Path) -> None:
    settings = [setting.format(folder=tmp_path) for setting in SETTINGS.get(recipe.stem, [])]
    planned = plan(recipe, tmp_path / "out", settings, find_verb)
    assert [step.verb_name for step in planned.steps].count("evaluate") == 1
    assert planned.next
