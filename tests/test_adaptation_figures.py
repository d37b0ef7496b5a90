"""The figures of `docs/adaptation.md` that take minutes, by the commands that print them; short ones on each run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.adaptation import CASES, reached
from benchmarks.calm import AFTER, Play
from benchmarks.calm import CASES as CALM

ROOT = Path(__file__).resolve().parent.parent


def printed(program: str, *more: str) -> dict[str, Any]:
    command = [sys.executable, f"benchmarks/{program}.py", "--json", *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_calm_market_raises_no_alarm_and_a_changed_one_does_in_every_stream() -> None:
    play = Play(CALM["pricing"], 3, 20_261)
    play.run(800)
    assert [stream.alarms for stream in play.streams] == [0, 0, 0]
    play.truth = play.truth.with_params({"sensitivity": 1.5})
    play.run(AFTER // 2)
    assert all(stream.alarms for stream in play.streams)


def test_a_quality_counts_as_reached_only_where_it_stays() -> None:
    assert reached(np.array([0.9, 0.96, 0.94, 0.97]), CASES["pricing x 2"].level) == 3
    assert reached(np.array([0.97, 0.96, 0.94]), CASES["pricing x 2"].level) is None


@pytest.mark.long
def test_the_quick_run_keeps_the_limits_of_pricing() -> None:
    found = printed("adaptation", "--quick")
    assert found["before"] >= CASES["pricing x 2"].before, found
    assert found["n95"] <= CASES["pricing x 2"].n, found
    assert found["worst_dip"] <= 0.02, found


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("case", list(CALM))
def test_nothing_comes_of_fifty_thousand_decisions_without_a_change(case: str) -> None:
    found = printed("calm", "--case", case)
    assert found["missed"] == [], found
