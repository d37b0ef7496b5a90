"""Public data sets through the back-test: hourly bike rentals, machine failures, two series with labelled anomalies.

The files are not part of this repository: UCI "Bike Sharing" (bike_sharing_uci.zip) and "AI4I 2020"
(ai4i2020.csv), and two series of the Numenta Anomaly Benchmark with their windows (nab/).

    python benchmarks/real_data.py [--data FOLDER]
"""

import argparse
import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from online.backtest import Result, Row, backtest
from online.memory_log import MemoryLog
from online.specs import model_spec

WEATHER = ("temp", "atemp", "hum", "windspeed", "weathersit", "holiday")
BY_HOUR = {"use": "feature_extraction.TargetAgg", "by": ["hr", "workingday"]}
BIKES: Mapping[str, Any] = {
    "task": "regression",
    "pipeline": [
        {
            "use": "compose.TransformerUnion",
            "transformers": [
                {"use": "compose.Select", "keys": list(WEATHER)},
                *(BY_HOUR | {"how": {"use": "stats.EWMean", "fading_factor": fading}} for fading in (0.05, 0.3)),
            ],
        },
        {"use": "preprocessing.StandardScaler"},
        {"use": "linear_model.LinearRegression", "optimizer": {"use": "optim.SGD", "lr": 0.01}},
    ],
    "metrics": ["MAE"],
}
FAILURES: Mapping[str, Any] = {
    "task": "binary",
    "pipeline": [
        {
            "use": "forest.ARFClassifier",
            "n_models": 5,
            "max_depth": 6,
            "seed": 1,
        }
    ],
    "metrics": ["ROCAUC"],
    "detectors": {},
}
LEVELS: Mapping[str, Any] = {
    "task": "regression",
    "pipeline": [
        {
            "use": "compose.TransformerUnion",
            "transformers": [
                {
                    "use": "feature_extraction.TargetAgg",
                    "by": ["slot"],
                    "how": {"use": "stats.EWMean", "fading_factor": 0.2},
                }
            ],
        },
        {"use": "preprocessing.StandardScaler"},
        {"use": "linear_model.LinearRegression", "optimizer": {"use": "optim.SGD", "lr": 0.01}},
    ],
    "metrics": ["MAE"],
}
TAXI, MACHINE = "nyc_taxi", "machine_temperature_system_failure"


def bikes(folder: Path) -> list[Row]:
    """Hourly rentals with the weather of the hour."""
    with zipfile.ZipFile(folder / "bike_sharing_uci.zip").open("hour.csv") as file:
        table = list(csv.DictReader(io.TextIOWrapper(file)))
    return [
        Row(
            {name: float(row[name]) for name in WEATHER} | {"hr": row["hr"], "workingday": row["workingday"]},
            float(row["cnt"]),
        )
        for row in table
    ]


def failures(folder: Path) -> list[Row]:
    """Machines with whether they failed; the columns that name the kind of failure are left out."""
    numbers = (
        "Air temperature [K]",
        "Process temperature [K]",
        "Rotational speed [rpm]",
        "Torque [Nm]",
        "Tool wear [min]",
    )
    with (folder / "ai4i2020.csv").open(encoding="utf-8-sig", newline="") as file:
        return [
            Row(
                {name.partition(" [")[0]: float(row[name]) for name in numbers} | {"kind": "LMH".index(row["Type"])},
                row["Machine_failure"] == "1",
            )
            for row in csv.DictReader(file)
        ]


def series(folder: Path, name: str) -> tuple[list[Row], list[tuple[float, float]]]:
    """A series with the slot of each value (half hour and day of the week), and the windows of its anomalies."""
    with (folder / "nab" / f"{name}.csv").open(newline="") as file:
        table = [(_seconds(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
    labelled = json.loads((folder / "nab" / "windows.json").read_text())[f"realKnownCause/{name}.csv"]
    rows = []
    for at, value in table:
        moment = datetime.fromtimestamp(at, UTC)
        slot = f"{moment.weekday()}-{moment.hour}-{moment.minute // 30}" if name == TAXI else "all"
        rows.append(Row({"slot": slot}, value, at=at))
    return rows, [(_seconds(begin), _seconds(end)) for begin, end in labelled]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def lagged(rows: list[Row], lag: int) -> float:
    """The mean absolute error of the label ``lag`` rows before."""
    labels = [float(row.label) for row in rows if isinstance(row.label, int | float)]
    return sum(abs(now - then) for now, then in zip(labels[lag:], labels, strict=False)) / (len(labels) - lag)


def played(name: str, table: Mapping[str, Any], rows: list[Row]) -> Result:
    """A back-test."""
    return backtest(model_spec(name, table), rows, MemoryLog(clock=lambda: 1e10))


def alarmed(folder: Path, name: str, detector: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Windows in which an alarm was raised, windows in all, alarms outside of them, rows."""
    rows, windows = series(folder, name)
    found = played(name, {**LEVELS, "detectors": {"error": dict(detector)}}, rows)
    times = [float(rows[alarm.row].at or 0.0) for alarm in found.alarms]
    hit = sum(any(begin <= time <= end for time in times) for begin, end in windows)
    outside = sum(not any(begin <= time <= end for begin, end in windows) for time in times)
    return hit, len(windows), outside, len(rows)


DETECTORS: Mapping[str, Mapping[str, Any]] = {
    "ADWIN, default": {"use": "drift.ADWIN"},
    "KSWIN": {"use": "drift.KSWIN", "alpha": 0.0001, "window_size": 300, "stat_size": 100, "seed": 1},
    "always (dummy)": {"use": "drift.DummyDriftDetector", "t_0": 1},
}


def told(folder: Path) -> Iterator[str]:
    """What is printed, line by line."""
    rows = bikes(folder)
    found = played("bikes", BIKES, rows)
    error, week = found.metrics["MAE"], lagged(rows, 168)
    yield f"bikes: MAE {error:.2f} over {len(rows):,} hours; the same hour a week ago {week:.2f}"
    found = played("failures", FAILURES, failures(folder))
    baseline = ", ".join(f"{name} {value:.3f}" for name, value in found.baseline.items())
    yield f"failures: ROC AUC {found.metrics['ROCAUC']:.3f} over {found.rows:,} machines; chance .500, {baseline}"
    for name in (MACHINE, TAXI):
        for title, detector in DETECTORS.items():
            hit, windows, outside, count = alarmed(folder, name, detector)
            share = 1_000 * outside / count
            yield f"{name}: {title}: {hit} of {windows} windows, {outside} alarms outside ({share:.2f} per 1,000 rows)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    given = parser.parse_args()
    if not given.data.is_dir():
        print(f"skipped: there is no folder {given.data}; name the one with the files by --data")
        return
    for line in told(given.data):
        print(line, flush=True)


if __name__ == "__main__":
    main()
