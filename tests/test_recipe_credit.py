"""The credit recipe: terms by expected profit, reasons in plain words, and no protected column anywhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from online.events import Scalar
from online.features import FeatureError
from recipes import catalogue
from recipes.credit.lending import NAMED, TERMS, WORDS, Economics, letter, reasons
from recipes.credit.loans import PROTECTED
from recipes.playing import STAGES, Run
from recipes.reasons import contributions, log_odds, typical
from recipes.rows import Case, DirtyError
from recipes.stream import Stream


@pytest.fixture(scope="module")
def run() -> Run:
    found = Run("credit", catalogue.recipes()["credit"].folder, lambda _: None)
    found.stage(STAGES[0])
    return found


@pytest.fixture(scope="module")
def cases(run: Run) -> Sequence[Case]:
    found: Sequence[Case] = catalogue.recipes()["credit"].module.collect(run)
    return found


@pytest.fixture(scope="module")
def stream(run: Run, cases: Sequence[Case]) -> Stream:
    taught = Stream(run.manifest.models["default"])
    for case in cases[:1_500]:
        taught.show(case, label=case.label)
    return taught


def test_expected_profit_is_that_of_the_two_ends_weighed_by_their_chances() -> None:
    economics = Economics(
        margin=0.1, extra=0.05, loss=0.5, good_take=0.5, bad_take=1.0, review=10.0, found=1.0, wronged=0.0
    )
    found = economics.expected(np.array([0.25]), np.array([1_000.0]), np.array([24.0]))
    approve, price, refer = 0.75 * 100 - 0.25 * 500, 0.75 * 0.5 * 150 - 0.25 * 500, 0.75 * 100 - 10
    assert found[0].tolist() == pytest.approx([approve, price, refer])


def test_sure_loans_are_approved_and_the_riskiest_go_to_a_person() -> None:
    chances = np.array([0.0, 1.0])
    found = Economics().expected(chances, np.full(2, 1_000.0), np.full(2, 48.0)).argmax(axis=1)
    assert [TERMS[i] for i in found] == ["approve", "refer"]


def test_reasons_are_the_weights_of_a_linear_model_times_the_distance_from_what_is_usual(
    stream: Stream, cases: Sequence[Case]
) -> None:
    usual = typical(cases[:500])
    own, other = cases[2_000], Case(usual, None, {})
    added = contributions(stream, own, usual)
    apart = log_odds(stream.chance(own)) - log_odds(stream.chance(other))
    assert sum(added.values()) == pytest.approx(apart)
    assert list(added.values()) == sorted(added.values(), reverse=True)


def test_a_feature_that_is_as_usual_is_no_reason(stream: Stream, cases: Sequence[Case]) -> None:
    usual = typical(cases[:500])
    assert set(contributions(stream, Case(usual, None, {}), usual).values()) == {0.0}
    assert reasons({"income": 0.0, "debt": -1.0}, usual, usual) == []


def test_a_letter_names_the_reasons_in_plain_words_and_says_what_can_be_done() -> None:
    usual: Mapping[str, Scalar] = {"income": 4.8, "records": False, "job": "fixed", "home": "owner"}
    features: Mapping[str, Scalar] = {"income": 4.0, "records": True, "job": "partime", "home": "rent"}
    why = reasons({"records": 2.0, "income": 1.0, "job": 0.5, "home": 0.1}, features, usual)
    assert why == ["late payments on record", "a low income", "working part-time"]
    told = letter("refer", why)
    assert "a person will decide" in told
    assert "; ".join(why) in told
    assert "corrected" in told
    assert "approved" in letter("approve", why)


def test_every_feature_has_plain_words(run: Run) -> None:
    assert set(run.manifest.models["default"].features or ()) == {*WORDS, *(name for name, _ in NAMED)}


@pytest.mark.parametrize("column", PROTECTED)
def test_a_request_with_a_protected_column_is_refused(column: str, stream: Stream, cases: Sequence[Case]) -> None:
    case = cases[0]
    assert column in case.beside
    with pytest.raises(FeatureError, match=column):
        stream.chance(Case({**case.features, column: case.beside[column]}, None, {}))


def test_a_file_without_the_protected_columns_plays_and_says_what_is_missing(tmp_path: Path) -> None:
    recipe = catalogue.recipes()["credit"]
    rows = [{name: cell for name, cell in row.items() if name not in PROTECTED} for row in recipe.module.sample()]
    said: list[str] = []
    (tmp_path / "trimtab.toml").write_bytes((recipe.folder / "trimtab.toml").read_bytes())
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows * 4))
    run = Run("credit", tmp_path, said.append, file)
    recipe.play(run)
    run.finish()
    assert any("fairness needs the columns Age and Marital" in line for line in said)


def test_groups_may_be_blank_or_named_by_digits_and_an_age_is_a_number() -> None:
    module = catalogue.recipes()["credit"].module
    row = next(iter(module.sample()))
    assert module.prepared({**row, "Marital": None, "Age": None})["Marital"] == "not given"
    assert module.prepared({**row, "Marital": 2})["Marital"] == "2"
    with pytest.raises(DirtyError, match="'Age' is 'old'"):
        module.prepared({**row, "Age": "old"})
