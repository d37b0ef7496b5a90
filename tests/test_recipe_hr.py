"""The HR recipe: protected columns are out, the budget is kept, and a bandit learns which conversation helps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from online.events import Scalar
from online.features import FeatureError
from recipes import catalogue
from recipes.hr.conversations import ARMS, helps, situation
from recipes.playing import STAGES, Run
from recipes.rows import Case, cases
from recipes.stream import Stream

PEOPLE = 400


@pytest.fixture(scope="module")
def module() -> Any:
    return catalogue.recipes()["hr"].module


@pytest.fixture(scope="module")
def run() -> Run:
    found = Run("hr", catalogue.recipes()["hr"].folder, lambda _: None)
    found.stage(STAGES[0])
    return found


@pytest.fixture(scope="module")
def people(module: Any, run: Run) -> Sequence[Case]:
    found: Sequence[Case] = module.collect(run)[:PEOPLE]
    return found


@pytest.fixture(scope="module")
def stream(run: Run, people: Sequence[Case]) -> Stream:
    taught = Stream(run.manifest.models["attrition"])
    for case in people:
        taught.show(case, label=case.label)
    return taught


def test_the_protected_columns_of_somebody_else_change_no_score(
    module: Any, run: Run, people: Sequence[Case], stream: Stream
) -> None:
    staff = module.Staff(people, np.array([case.label for case in people], bool), np.zeros(PEOPLE, int))
    rows = module.swapped(run, staff)
    others = cases(rows, "others", run.manifest.models["attrition"], module.SHEET).taken
    swapped = [own.beside != other.beside for own, other in zip(people, others, strict=True)]
    assert np.mean(swapped) > 0.9
    assert [stream.chance(case) for case in people] == [stream.chance(case) for case in others]


@pytest.mark.parametrize("column", ["Age", "Gender", "MaritalStatus"])
def test_a_request_with_a_protected_column_is_refused(column: str, people: Sequence[Case], stream: Stream) -> None:
    case = people[0]
    with pytest.raises(FeatureError, match=column):
        stream.chance(Case({**case.features, column: case.beside[column]}, None, {}))


def test_as_many_are_invited_as_the_budget_allows_and_none_before_a_higher_score(module: Any) -> None:
    scores = np.random.default_rng(0).random(200)
    invited = module.Staff([], np.zeros(200, bool), np.zeros(200, int)).invited(scores)
    assert invited.sum() == int(module.BUDGET * 200)
    assert scores[invited].min() > scores[~invited].max()


def test_nobody_is_judged_by_a_model_that_learned_how_it_ended(module: Any, run: Run, people: Sequence[Case]) -> None:
    left = np.array([case.label for case in people], bool)
    staff = module.Staff(people, left, np.arange(PEOPLE) % module.FOLDS)
    spec = run.manifest.models["attrition"]
    other = left.copy()
    other[0] = not other[0]
    first = staff.folds == staff.folds[0]
    before, after = module.judged(run, spec, staff), module.judged(run, spec, staff, other)
    assert (before[first] == after[first]).all()
    assert (before[~first] != after[~first]).any()


def test_each_conversation_is_the_best_for_somebody() -> None:
    people: list[Mapping[str, Scalar]] = [
        {"OverTime": True, "MonthlyIncome": 9_000},
        {"YearsSinceLastPromotion": 10, "MonthlyIncome": 9_000},
        {"MonthlyIncome": 1_500},
        {"RelationshipSatisfaction": "Low", "MonthlyIncome": 9_000},
    ]
    best = [max(chances, key=chances.__getitem__) for chances in (helps(situation(one)) for one in people)]
    assert tuple(best) == ARMS


def test_groups_with_too_few_leavers_have_no_gap(module: Any) -> None:
    few = np.array([True, False, True, False])
    assert np.isnan(module.gap(["a", "a", "b", "b"], few, few))


def test_a_group_that_is_not_given_is_one_of_its_own(module: Any, run: Run) -> None:
    rows = [{**row, "MaritalStatus": None, "Gender": 7} for row in list(module.sample())[:20]]
    spec = run.manifest.models["attrition"]
    (case, *_) = cases(rows, "mine", spec, replace(module.SHEET, least=1)).taken
    assert (case.beside["MaritalStatus"], case.beside["Gender"]) == ("not given", "7")
    assert Stream(module.spec_with_all(spec)).chance(module.let_in([case])[0]) == 0.5
