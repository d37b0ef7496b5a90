"""`trimtab tune MODEL`: spaces from the manifest and from options, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.commands import tune_model
from service.commands.output import UsageError

TABLE = """
[models.phishing]
task = "binary"
pipeline = [{use = "preprocessing.StandardScaler"},
            {use = "linear_model.LogisticRegression", optimizer = {use = "optim.SGD", lr = 0.0001}}]
metrics = ["Accuracy"]
"""
GIVEN: dict[str, Any] = {
    "data": "Phishing",
    "label": None,
    "at": None,
    "drop": "",
    "trials": 4,
    "held_out": 0.2,
    "seed": 0,
    "as_json": True,
    "search": ["pipeline[1].optimizer.lr=0.001:1:log"],
}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "trimtab.toml").write_text(TABLE)
    return tmp_path / "trimtab.toml"


def test_a_model_is_tuned_and_judged_on_the_rows_held_out(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune_model.run("phishing", manifest=manifest, **GIVEN)
    found = json.loads(capsys.readouterr().out)
    assert (found["searched"], found["held_out"]) == (1_000, 250)
    assert 0.001 <= found["settings"]["pipeline[1].optimizer.lr"] <= 1
    assert found["after"] < found["before"]
    assert found["metric"] == "Accuracy"


def test_names_are_of_models_where_the_manifest_declares_them(manifest: Path) -> None:
    assert tune_model.is_model("phishing", manifest)
    assert not tune_model.is_model("pricing", manifest)
    assert not tune_model.is_model("pricing", manifest.parent / "nothing.toml")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": None}, "needs --data"),
        ({"search": []}, "nothing to search"),
        ({"search": ["lr"]}, "give"),
        ({"search": ["a=1:2:cubic"]}, "third part"),
        ({"search": ["pipeline[9].lr=1:2"]}, "leads nowhere"),
        ({"search": ["pipeline[1].optimizer.lr=2:1"]}, "low < high"),
        ({"held_out": 0.999}, "on each side"),
    ],
)
def test_what_cannot_be_searched_is_refused(manifest: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        tune_model.run("phishing", manifest=manifest, **(GIVEN | changes))


def shown(manifest: Path, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    tune_model.run("phishing", manifest=manifest, **(GIVEN | {"as_json": False} | changes))
    return capsys.readouterr().out


def test_it_says_where_what_was_found_may_be_nothing(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "keep what is declared" not in shown(manifest, capsys)
    # One trial is the model as declared: nothing can be saved.
    assert "that may be nothing: keep what is declared" in shown(manifest, capsys, trials=1)


def test_columns_are_left_out_of_a_search(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declared = manifest.read_text().replace("task = ", 'features = {x = "number"}\ntask = ', 1)
    manifest.write_text(declared)
    data = tmp_path / "rows.csv"
    data.write_text("name,x,y\n" + "".join(f"n{n},{n % 7},{int(n % 7 > 3)}\n" for n in range(200)))
    with pytest.raises(UsageError, match="none of"):
        tune_model.run("phishing", manifest=manifest, **(GIVEN | {"data": str(data), "label": "y"}))
    tune_model.run("phishing", manifest=manifest, **(GIVEN | {"data": str(data), "label": "y", "drop": "name"}))
    assert json.loads(capsys.readouterr().out)["held_out"] == 40
