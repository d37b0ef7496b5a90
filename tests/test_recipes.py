"""Recipes: what they refuse and how they say so, the frame they are played in, and how the command finds them."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from recipes import catalogue
from recipes.measures import calibration_error, flagged
from recipes.playing import HEAD, STAGES, Figure, Run, Table
from service.cli import app

RECIPES = sorted(catalogue.recipes())
SHOWN = 400

Row = dict[str, Any]


def invoked(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["recipe", *arguments])
    return done.exit_code, done.output


def sample(name: str) -> list[Row]:
    """Clean rows of a recipe, as its own `sample` gives them."""
    module: Any = catalogue.recipes()[name].module
    return [dict(row) for row in module.sample()]


def written(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    listed = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(listed[0]), restval="")
        writer.writeheader()
        writer.writerows(listed)
    return path


def first_number(row: Row) -> str:
    return next(name for name, cell in row.items() if isinstance(cell, int | float) and not isinstance(cell, bool))


def without_a_column(rows: list[Row]) -> None:
    gone = first_number(rows[0])
    for row in rows:
        del row[gone]


def text_for_a_number(rows: list[Row]) -> None:
    column = first_number(rows[0])
    for row in rows:
        row[column] = "many"


def all_blank(rows: list[Row]) -> None:
    for row in rows:
        row.update(dict.fromkeys(row, ""))


def too_few(rows: list[Row]) -> None:
    del rows[3:]


DIRT: Mapping[str, tuple[Callable[[list[Row]], None], str]] = {
    "a missing column": (without_a_column, "has no column"),
    "a text where a number was": (text_for_a_number, "allowed is"),
    "blank cells everywhere": (all_blank, "cannot be used"),
    "too few rows": (too_few, "at least"),
}


@pytest.mark.parametrize("dirt", DIRT)
@pytest.mark.parametrize("name", RECIPES)
def test_a_dirty_file_is_refused_with_a_message_that_says_what_is_allowed(name: str, dirt: str, tmp_path: Path) -> None:
    rows = sample(name)
    spoil, expected = DIRT[dirt]
    spoil(rows)
    file = written(tmp_path / "mine.csv", rows)
    status, said = invoked(name, "--data", str(file), "--out", str(tmp_path / "out"))
    assert status == 2, said
    assert expected in said
    assert "mine.csv" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", RECIPES)
def test_some_dirty_rows_are_set_aside_and_named(name: str, tmp_path: Path) -> None:
    rows = sample(name)[:SHOWN]
    column = first_number(rows[0])
    for row in rows[10:20]:
        row[column] = "many"
    for row in rows[20:]:
        row["nobody_knows_this"] = 1
    said: list[str] = []
    run = Run(name, catalogue.recipes()[name].folder, said.append, written(tmp_path / "mine.csv", reversed(rows)))
    module: Any = catalogue.recipes()[name].module
    run.stage(STAGES[0])
    taken = module.collect(run, 50)
    assert len(taken) == len(rows) - 10
    told = " ".join(said)
    assert "10 were set aside" in told
    assert repr("many") in told
    assert "nobody_knows_this" in told


@pytest.mark.parametrize(
    ("name", "column"), [("fraud", "at"), ("maintenance", "day"), ("support", "at"), ("supply-chain", "day")]
)
def test_a_time_that_is_a_slip_is_set_aside(name: str, column: str, tmp_path: Path) -> None:
    rows = sample(name)
    rows[7][column], rows[40][column] = 0, "2226-01-01"
    said: list[str] = []
    run = Run(name, catalogue.recipes()[name].folder, said.append, written(tmp_path / "mine.csv", rows))
    run.stage(STAGES[0])
    module: Any = catalogue.recipes()[name].module
    assert len(module.collect(run)) == len(rows) - 2
    assert "row 8: the time" in " ".join(said)
    assert "row 41: the time" in " ".join(said)


@pytest.mark.parametrize("name", ["fraud", "maintenance"])
def test_what_only_the_recipe_can_know_is_not_believed_of_a_file(name: str, tmp_path: Path) -> None:
    rows = [{**row, "chance": "many"} for row in sample(name)]
    run = Run(name, catalogue.recipes()[name].folder, print, written(tmp_path / "mine.csv", rows))
    run.stage(STAGES[0])
    module: Any = catalogue.recipes()[name].module
    assert module.collected(run).chance is None


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_whole(name: str, tmp_path: Path) -> None:
    recipe = catalogue.recipes()[name]
    readme = (recipe.folder / "README.md").read_text()
    assert "must not be used" in readme
    assert "<!-- figures -->\n\n| figure |" in readme
    run = Run(name, recipe.folder, print)
    assert run.manifest.models or run.manifest.points
    recipe.copy(tmp_path / "mine")
    assert catalogue.find(str(tmp_path / "mine")).play.__doc__
    with pytest.raises(FileExistsError, match="already"):
        recipe.copy(tmp_path / "mine")


def test_the_command_lists_what_there_is_and_names_it_for_what_there_is_not() -> None:
    status, said = invoked("--list", "--json")
    assert status == 0
    assert sorted(json.loads(said)["recipes"]) == RECIPES
    status, said = invoked("nothing-of-the-kind")
    assert status == 2
    assert all(name in said for name in RECIPES)


def test_stages_are_played_in_their_order_and_none_is_left_out(tmp_path: Path) -> None:
    run = Run("one", tmp_path, lambda _: None)
    run.stage(STAGES[0])
    with pytest.raises(ValueError, match="the next one is 'features'"):
        run.stage(STAGES[2])
    with pytest.raises(ValueError, match="leaves out the stage 'features'"):
        run.finish()


def test_a_stage_that_says_nothing_shows_its_figures(tmp_path: Path) -> None:
    run = Run("one", tmp_path, lambda _: None)
    run.stage(STAGES[0])
    run.figure("area", 0.8, ("by luck", 0.5))
    run.stage(STAGES[1])
    run.say("words")
    run.figure("width", 1.0)
    run.stage(STAGES[2])
    assert run.parts[STAGES[0]] == [Table(HEAD, [("area", "0.8", "0.5 (by luck)", "")])]
    assert run.parts[STAGES[1]] == ["words"]


def test_a_figure_stands_beside_its_baseline_and_the_best_possible() -> None:
    figure = Figure("cost", 12.3456, ("a rule", 20.0), ("exact", 10.0))
    assert figure.cells == ("cost", "12.3", "20 (a rule)", "10 (exact)")


def test_a_queue_never_looks_ahead_and_keeps_its_budget() -> None:
    scores = np.random.default_rng(0).random(20_000)
    taken = flagged(scores, 0.01, 1_000, 100)
    again = flagged(np.where(np.arange(20_000) < 15_000, scores, 0.0), 0.01, 1_000, 100)
    assert (taken[:15_000] == again[:15_000]).all()
    assert 0.008 < taken[1_000:].mean() < 0.012


def test_chances_that_come_true_as_often_as_they_say_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    chances = rng.random(50_000)
    truth = rng.random(50_000) < chances
    assert calibration_error(chances, truth) < 0.01
    assert calibration_error(chances / 2, truth) == pytest.approx(0.25, abs=0.01)
