"""`trimtab declare`: what a file's columns are taken for, and that what is drafted can be played and served."""

import csv
import json
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service import manifest
from service.cli import app
from service.outside.draft import DraftError, draft

Row = dict[str, Any]


def customers(n: int = 400) -> list[Row]:
    rng = np.random.default_rng(0)
    return [
        {
            "customer_id": f"c{number}",
            "line": number + 1,
            "age": None if number % 50 == 0 else int(rng.integers(18, 80)),
            "plan": str(rng.choice(["free", "gold"])),
            "town": f"town {int(rng.integers(0, 80))}",
            "said": " ".join(rng.choice(["slow", "good", "late", "fast", "never"], 5)),
            "joined": f"2026-01-{1 + number % 28:02}",
            "abroad": bool(rng.random() < 0.5),
            "currency": "EUR",
            'size "cm"\n': float(number % 7),
            "left": bool(rng.random() < 0.3),
        }
        for number in range(n)
    ]


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def invoked(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_each_column_becomes_what_its_cells_are() -> None:
    found = draft("churn", "left", customers())
    declared = manifest.parse(tomllib.loads(found.toml)).models["churn"]
    assert declared.task == "binary"
    kinds = {name: (one.type, one.encode) for name, one in (declared.features or {}).items()}
    assert kinds == {
        "age": ("number", ""),
        "plan": ("category", "onehot"),
        "town": ("category", "hash"),
        "said": ("text", "tfidf"),
        "joined": ("timestamp", ""),
        "abroad": ("boolean", ""),
        'size "cm"\n': ("number", ""),
    }
    assert found.left_out == ("customer_id", "line", "currency")
    assert (declared.features or {})["age"].impute == "median"


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        ([True, False], "binary"),
        ([0, 1], "binary"),
        (["yes", "no"], "multiclass"),
        ([1, 2, 3], "multiclass"),
        ([0.5, 1.5], "regression"),
        (list(range(100)), "regression"),
    ],
)
def test_the_label_says_what_the_task_is(labels: list[Any], task: str) -> None:
    rows = [{"x": 0.5 * number, "y": label} for number, label in enumerate(labels * 2)]
    found = draft("m", "y", rows)
    assert found.task == task
    assert manifest.parse(tomllib.loads(found.toml)).models["m"].task == task


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no rows"),
        ([{"x": 1}], "no column 'y'; there are: x"),
        ([{"x": 1, "y": 1}, {"x": 2, "y": 1}], "the label is 1 in all rows"),
        ([{"x": 3, "y": 1}, {"x": 3, "y": 0}], "no column but the label"),
        ([{"x": n, "y": f"name {n}"} for n in range(99)], "99 different texts in 99 rows"),
    ],
)
def test_what_cannot_be_declared_is_refused_in_words(rows: list[Row], message: str) -> None:
    with pytest.raises(DraftError, match=message):
        draft("m", "y", rows)


def test_what_is_drafted_is_played_without_a_refused_row(tmp_path: Path) -> None:
    file, out = written(tmp_path / "my churn.csv", customers()), tmp_path / "trimtab.toml"
    status, said, remarks = invoked("declare", str(file), "--label", "left", "--out", str(out))
    assert (status, said) == (0, "")
    assert "trimtab ingest my-churn" in remarks
    play = ("backtest", "my-churn", "--manifest", str(out), "--data", str(file), "--label", "left", "--json")
    status, said, _ = invoked(*play, "--drop", "customer_id,line,currency")
    assert status == 0
    assert json.loads(said)["counts"]["learned"] == 400
    status, _, remarks = invoked(*play)
    assert status == 1
    assert "--drop" in remarks


def test_a_number_that_some_cells_spoil_stays_one_and_the_spoilt_are_named() -> None:
    rows = [{"spend": "unknown" if n % 20 == 3 else n * 1.5, "left": n % 3 == 0} for n in range(100)]
    (found,) = draft("m", "left", rows).columns
    assert found.declared == '{type = "number"}'
    assert "5.0% are none (unknown): these rows are set aside" in found.seen


def test_a_column_that_is_filled_when_the_label_is_known_is_suspected() -> None:
    rows = [
        {"ended": f"2026-01-{n % 28 + 1:02}" if n % 3 == 0 else None, "age": n % 50 or None, "left": n % 3 == 0}
        for n in range(100)
    ]
    ended, age = draft("m", "left", rows).columns
    assert "known only after it?" in ended.seen
    assert "known only after it?" not in age.seen


@pytest.mark.parametrize(
    ("written", "advice"), [("€{n}.50", "numbers?"), ("{n}%", "numbers?"), ("{n}/01/2026 10:30", "times?")]
)
def test_words_that_mean_a_number_or_a_time_get_advice(written: str, advice: str) -> None:
    rows = [{"x": written.format(n=n % 30 + 1), "left": n % 3 == 0} for n in range(100)]
    assert advice in draft("m", "left", rows).columns[0].seen


def test_words_that_mean_neither_get_none() -> None:
    rows = [{"x": f"plan {'abcde'[n % 5]}", "left": n % 3 == 0} for n in range(100)]
    assert "?" not in draft("m", "left", rows).columns[0].seen


def test_lines_to_go_on_with_can_be_pasted_as_they_stand(tmp_path: Path) -> None:
    rows = [{"no. (of all)": f"c{n}", "total, EUR": "x", "age": n % 9, "gone?": n % 2 == 0} for n in range(60)]
    file, out = written(tmp_path / "My (2026) file.csv", rows), tmp_path / "trimtab.toml"
    status, _, remarks = invoked("declare", str(file), "--label", "gone?", "--out", str(out))
    assert status == 0
    line = next(line for line in "".join(remarks).splitlines() if "backtest" in line)
    command, *arguments = shlex.split(line.lstrip("# "))
    assert command == "trimtab"
    status, said, _ = invoked(*arguments, "--json")
    assert (status, json.loads(said)["counts"]["learned"]) == (0, 60)


def test_a_column_of_times_is_no_feature_and_is_named_in_what_follows(tmp_path: Path) -> None:
    file, out = written(tmp_path / "a.csv", customers(60)), tmp_path / "trimtab.toml"
    status, _, remarks = invoked("declare", str(file), "--label", "left", "--at", "joined", "--out", str(out))
    assert status == 0
    assert "joined" not in (manifest.load(out).models["a"].features or {})
    line = next(line for line in remarks.splitlines() if "backtest" in line)
    status, said, _ = invoked(*shlex.split(line.lstrip("# "))[1:], "--json")
    assert (status, json.loads(said)["counts"]["learned"]) == (0, 60)
    status, _, remarks = invoked("declare", str(file), "--label", "left", "--at", "nothing")
    assert (status, "no column 'nothing'" in remarks) == (2, True)


def test_codes_in_a_column_of_names_are_taken(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", [{"zip": f"{n % 7:05}", "left": n % 3 == 0} for n in range(60)])
    out = tmp_path / "trimtab.toml"
    invoked("declare", str(file), "--label", "left", "--out", str(out))
    out.write_text(out.read_text().replace('zip = {type = "number"}', 'zip = {type = "category"}'))
    arguments = ("--manifest", str(out), "--data", str(file), "--label", "left", "--json")
    status, said, _ = invoked("backtest", "a", *arguments)
    assert (status, json.loads(said)["counts"]["learned"]) == (0, 60)


def test_a_manifest_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    file, out = written(tmp_path / "churn.csv", customers(50)), tmp_path / "trimtab.toml"
    out.write_text("mine")
    status, _, remarks = invoked("declare", str(file), "--label", "left", "--out", str(out))
    assert status == 2
    assert "is there already" in remarks
    assert out.read_text() == "mine"


def test_a_name_that_no_model_may_have_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "churn.csv", customers(50))
    status, _, remarks = invoked("declare", str(file), "--label", "left", "--name", "My Model")
    assert status == 2
    assert "--name" in remarks
    assert "lower-case" in remarks
