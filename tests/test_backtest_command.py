"""`trimtab backtest`: kinds of file, alarms judged beside the dummy, pictures, what is refused."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from river import datasets

from service.commands import backtest
from service.commands.output import CommandError, UsageError
from service.commands.progress import Checkpoints

TABLE = """
[models.phishing]
task = "binary"
pipeline = [{use = "preprocessing.StandardScaler"},
            {use = "linear_model.LogisticRegression", optimizer = {use = "optim.SGD", lr = 0.005}}]
metrics = ["Accuracy"]
"""
LEARNING = Path(__file__).resolve().parent.parent / "docs" / "learning.md"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "trimtab.toml").write_text(TABLE)
    return tmp_path / "trimtab.toml"


def run(manifest: Path, capsys: pytest.CaptureFixture[str], model: str, data: str, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(manifest, capsys, model, data, **changes))
    return found


def told(manifest: Path, capsys: pytest.CaptureFixture[str], model: str, data: str, **changes: Any) -> str:
    given = {
        "label": None,
        "at": None,
        "label_delay": None,
        "label_probability": 1.0,
        "drifts": "",
        "restart_at": None,
        "log": "memory",
        "seed": 0,
        "as_json": True,
    }
    backtest.run(model=model, data=data, manifest=manifest, **(given | changes))
    return capsys.readouterr().out


def flipped() -> list[dict[str, Any]]:
    """Phishing, its labels turned round from row 625 on, with a time of one row a minute."""
    return [
        {**x, "phishing": int(y if number < 625 else not y), "minute": 60.0 * number}
        for number, (x, y) in enumerate(datasets.Phishing())
    ]


def test_each_kind_of_file_gives_the_same_figures_with_labels_late_in_time_and_missing(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, folder = flipped(), manifest.parent
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    (folder / "a.csv").write_text("\n".join(lines))
    options = {"label": "phishing", "at": "minute", "label_probability": 0.8}
    found = [
        run(manifest, capsys, "phishing", str(folder / name), label_delay="30min", **options)
        for name in ("a.jsonl", "a.parquet", "a.csv")
    ]
    assert found[0]["counts"]["labelled"] == pytest.approx(1_000, abs=70)
    for other in found[1:]:
        assert other["metrics"] == found[0]["metrics"]
    # Half an hour at one row a minute, less the row itself.
    by_rows = run(manifest, capsys, "phishing", str(folder / "a.csv"), label_delay="29rows", **options)
    assert by_rows["metrics"] == found[0]["metrics"]


def test_alarms_are_judged_beside_the_dummy_and_drawn(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = manifest.parent
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in flipped()))
    found = run(
        manifest,
        capsys,
        "phishing",
        str(folder / "a.jsonl"),
        label="phishing",
        drifts="625",
        html=folder / "a.html",
        plot=folder / "a.png",
    )
    detectors = found["detectors"]
    assert detectors["ADWIN on error"]["detected"] == 1
    assert 0 < detectors["ADWIN on error"]["delay"] < 100
    assert found["false_alarms"] == len(found["alarms"]) - 1
    dummy = {"detected": 1, "delay": 0, "false_alarms": 1249, "false_alarms_per_1000": 999.2}
    assert detectors["always (dummy)"] == dummy
    page = (folder / "a.html").read_text()
    assert page.count("<svg") == 2
    assert page.count("stroke-dasharray") == 2
    assert page.count('stroke-width=".7"') == 2 * len(found["alarms"])
    assert "http" not in page
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_an_alarm_stopped_says_so(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(manifest, capsys, "phishing", "Phishing")["halted"] is None
    data = manifest.parent / "a.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in flipped()))
    manifest.write_text(TABLE + 'on_drift = "raise"\n')
    found = run(manifest, capsys, "phishing", str(data), label="phishing")
    assert found["halted"] == "drift"
    assert found["counts"]["learned"] < 1_250
    said = " ".join(told(manifest, capsys, "phishing", str(data), label="phishing", as_json=False).split())
    assert f"it learned no more after {found['counts']['learned']:,} labels: an alarm stopped it" in said


def test_challengers_are_compared_on_the_same_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declared = """
[models.phishing]
task = "binary"
pipeline = [{use = "dummy.PriorClassifier"}]
metrics = ["Accuracy"]
challengers = {bayes = {pipeline = [{use = "naive_bayes.GaussianNB"}]}}
comparison = {labels = 400, switch = "better"}
"""
    challenged = tmp_path / "challenged.toml"
    challenged.write_text(declared)
    found = run(challenged, capsys, "phishing", "Phishing")
    assert found["champion"] == "bayes"
    (prior,) = found["challengers"]
    assert (prior["name"], prior["learned"]) == ("declared", 1_250)
    assert prior["metrics"]["Accuracy"] < found["metrics"]["Accuracy"]
    first, *later = found["findings"]
    assert (first["challenger"], first["verdict"], first["labels"]) == ("bayes", "better", 400)
    assert {finding["verdict"] for finding in later} == {"worse"}


def test_columns_and_events_of_the_same_rows_give_the_same_figures_by_key_and_time(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = manifest.parent
    manifest.write_text(
        '[models.m]\ntask = "binary"\nkey = "shop"\nmetrics = ["Accuracy"]\n'
        'features = {x = "number"}\npipeline = [{use = "linear_model.LogisticRegression"}]\n'
    )
    rows = [{"shop": n % 2, "hour": 3_600.0 * n, "x": n % 7 - 3.0, "y": (n % 7 > 3) != n % 2} for n in range(200)]
    events = [
        {"key": str(row["shop"]), "at": row["hour"], "features": {"x": row["x"]}, "label": row["y"]} for row in rows
    ]
    for name, lines in (("columns", rows), ("events", events)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    of_columns = run(
        manifest, capsys, "m", str(folder / "columns.jsonl"), label="y", at="hour", label_delay="3h", restart_at=100
    )
    of_events = run(manifest, capsys, "m", str(folder / "events.jsonl"), label_delay="3h", restart_at=100)
    # The last three labels come after the last row. One model over both shops could not be right.
    assert of_columns["counts"]["labelled"] == 200
    assert of_columns["metrics"]["Accuracy"] > 0.9
    assert of_events["metrics"] == of_columns["metrics"]


def test_the_forecasts_of_the_documentation_have_the_figures_that_it_gives(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, begin, rest = LEARNING.read_text().partition("    [models.air]\n")
    manifest.write_text(textwrap.dedent(begin + rest.partition("    trimtab")[0]))
    found = run(manifest, capsys, "air", "AirlinePassengers", season=12)
    assert found["baseline"]["seasonal-naive MAE"] == pytest.approx(32.0303, abs=1e-4)
    assert found["baseline"]["model's MAE on the same rows"] == pytest.approx(20.06, abs=0.05)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"restart_at": 1_250}, "less than the 1,250 rows"),
        ({"drifts": "100,1250"}, "rows below 1,250"),
        ({"drifts": "-5"}, "counted from 0, each once and in order"),
        ({"drifts": "100,100"}, "each once and in order"),
        ({"drifts": "200,100"}, "each once and in order"),
        ({"drifts": "100,,200"}, "each once and in order"),
        ({"drifts": "a"}, "each once and in order"),
        ({"html": Path("a.png")}, "ending in .html"),
        ({"plot": Path("nowhere/a.png")}, "folder that exists"),
        ({"season": 12}, "forecasting"),
        ({"label_delay": "7d"}, "--at"),
    ],
)
def test_what_cannot_be_is_refused(
    manifest: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        run(manifest, capsys, "phishing", "Phishing", **changes)


WATCHED = """
[models.phishing]
task = "binary"
pipeline = [{use = "preprocessing.StandardScaler"},
            {use = "linear_model.LogisticRegression", optimizer = {use = "optim.SGD", lr = 0.005}}]
metrics = ["Accuracy"]
[models.phishing.detectors]
error = {use = "drift.ADWIN"}
eager = {use = "drift.ADWIN", on = "error", delta = 0.3, clock = 8}
never = {use = "drift.NoDrift", on = "error"}
"""


def test_every_declared_detector_is_judged_by_its_own_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "watched.toml").write_text(WATCHED)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in flipped()))
    found = run(
        tmp_path / "watched.toml", capsys, "phishing", str(tmp_path / "a.jsonl"), label="phishing", drifts="625"
    )
    lines = found["detectors"]
    names = ["ADWIN on error", "eager: ADWIN on error", "never: NoDrift on error", "all together", "always (dummy)"]
    assert list(lines) == names
    assert lines["eager: ADWIN on error"]["delay"] < lines["ADWIN on error"]["delay"]
    assert lines["never: NoDrift on error"]["detected"] == 0
    counted = {name: sum(alarm["name"] == name for alarm in found["alarms"]) for name in ("error", "eager", "never")}
    assert counted["error"] == 1 + lines["ADWIN on error"]["false_alarms"]
    assert counted["eager"] == 1 + lines["eager: ADWIN on error"]["false_alarms"]
    assert counted["never"] == 0


DECLARED = """
[models.strict]
task = "binary"
pipeline = [{use = "preprocessing.StandardScaler"}, {use = "linear_model.LogisticRegression"}]
metrics = ["Accuracy"]
features = {width = {type = "number"}}
"""


@pytest.mark.parametrize(
    ("row", "options", "told"),
    [
        ({"height": 1, "label": True}, {}, "height"),
        ({"width": "wide", "label": True}, {}, "width"),
        ({"width": 1, "label": "a"}, {"label_delay": "10rows"}, "label"),
    ],
)
def test_a_file_of_which_every_row_is_refused_fails_with_the_first_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    (tmp_path / "strict.toml").write_text(DECLARED)
    (tmp_path / "a.jsonl").write_text((json.dumps(row) + "\n") * 30)
    with pytest.raises(CommandError, match="none of the 30 rows") as caught:
        run(tmp_path / "strict.toml", capsys, "strict", str(tmp_path / "a.jsonl"), label="label", **options)
    assert not isinstance(caught.value, UsageError)
    reasons = str(caught.value).splitlines()[1:]
    assert len(reasons) == 5
    assert reasons[0].startswith("  row 0")
    assert told in reasons[0]


def test_rows_that_were_refused_among_others_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "strict.toml").write_text(DECLARED)
    rows = [{"width": "wide" if n == 7 else n, "label": n % 2 == 0} for n in range(30)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run(tmp_path / "strict.toml", capsys, "strict", str(tmp_path / "a.jsonl"), label="label")
    assert [(one["row"], one["field"]) for one in found["refused"]] == [(7, "features.width")]
    assert found["counts"]["rejected"] == 1


def test_a_broken_file_is_refused_by_its_reader_and_not_by_who_counts_its_rows(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("a.csv", b"a,b\n1,2,3\n"), ("a.jsonl", b"{}\n[]\n"), ("a.txt", b"")):
        (manifest.parent / name).write_bytes(content)
        with pytest.raises(UsageError):
            run(manifest, capsys, "phishing", str(manifest.parent / name), label="b")


def test_a_run_goes_on_where_no_checkpoint_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    kept = Checkpoints("m", {"a": 1}, tmp_path / "file")
    kept._due = 0.0
    kept.keep(lambda: b"state")
    assert "cannot be resumed" in capsys.readouterr().err
    kept.keep(lambda: pytest.fail("asked again"))


def test_a_checkpoint_outlives_an_interrupt_alone(tmp_path: Path) -> None:
    def end(kept: Checkpoints, error: type[BaseException]) -> None:
        kept._due = 0.0
        with kept:
            kept.keep(lambda: b"state")
            raise error

    for error, left in ((KeyboardInterrupt, b"state"), (ValueError, None)):
        kept = Checkpoints("m", {"a": 1}, tmp_path)
        with pytest.raises(error):
            end(kept, error)
        assert kept.load() == left
    assert Checkpoints("m", {"a": 2}, tmp_path).path != Checkpoints("m", {"a": 1}, tmp_path).path
