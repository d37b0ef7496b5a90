"""The commands of a user against a service that runs: simulate, ingest, rejects, policies, promote, report."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import QUIET, SOON_S, Run, learned, learned_when_back


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A service whose baseline serves and which trains nothing."""
    folder = tmp_path_factory.mktemp("quiet")
    (folder / "trimtab.toml").write_text(QUIET)
    run = Run("--port", "0", cwd=folder)
    yield run
    run.clean_up()


def simulate(run: Run, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "service.cli", "simulate", "price", "--url", run.url(), "--json", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def test_what_is_earned_is_what_the_served_rule_earns_with_the_same_customers(quiet: Run) -> None:
    result = finished(simulate(quiet, "--decisions", "400", "--entities", "4", "--seed", "3"))
    assert result["decisions"] == 400
    assert result["episodes"] >= 4
    assert result["rivals"]["best-fixed"]["share"] == 1.0
    assert 0.5 < result["rivals"]["oracle"]["share"] < 1.1
    assert result["outcomes"] == {"sent": 400, "lost": 0, "doubled": 0, "refused": 0}


def test_a_run_that_is_repeated_gets_the_same_answers_and_appends_nothing(quiet: Run) -> None:
    arguments = ("--decisions", "120", "--entities", "2", "--seed", "5", "--run", "again")
    first = finished(simulate(quiet, *arguments))
    before = quiet.get("/v1/points/price"), joined(quiet)
    second = finished(simulate(quiet, *arguments))
    assert (quiet.get("/v1/points/price"), joined(quiet)) == before
    assert second["earned"] == first["earned"]


def joined(run: Run) -> tuple[int, int]:
    """Decisions and rewarded decisions that the learner has joined, once it has seen everything."""
    assert run.eventually(lambda: all(point["lag"] == 0 for point in run.get("/v1/system")["points"]))
    (point,) = (point for point in run.get("/v1/system")["points"] if point["name"] == "price")
    return point["decisions"], sum(value["rewarded"] for value in point["values"])


def test_late_lost_and_doubled_outcomes_are_told_as_ordered_and_counted_once(quiet: Run) -> None:
    before = joined(quiet)
    mishaps = ("--delay", "3", "--loss", "0.1", "--dup", "0.2")
    result = finished(simulate(quiet, "--decisions", "600", "--entities", "6", "--seed", "7", *mishaps))
    told = result["outcomes"]
    # Five standard deviations of a binomial count: 37 of 600 lost at 0.1, 47 of 540 doubled at 0.2.
    assert told["lost"] == pytest.approx(60, abs=37)
    assert told["doubled"] == pytest.approx(108, abs=47)
    assert told["sent"] == 600 - told["lost"] + told["doubled"]
    after = joined(quiet)
    assert (after[0] - before[0], after[1] - before[1]) == (600, 600 - told["lost"])


def test_a_change_of_the_hidden_world_shows_against_the_oracle_and_in_its_own_regime(quiet: Run) -> None:
    result = finished(
        simulate(quiet, "--decisions", "1600", "--entities", "16", "--seed", "9", "--shift", "at=800,sensitivity=2")
    )
    calm, changed = result["regimes"]
    assert calm["rivals"]["best-fixed"]["share"] == 1.0
    assert changed["since"] == 800
    assert changed["changes"] == {"sensitivity": 2}
    assert changed["exact"]["oracle"] < 0.6 * calm["exact"]["oracle"]
    assert changed["rivals"]["oracle"]["share"] < 0.85
    assert changed["fixed_action"] < calm["fixed_action"]


def test_a_model_gets_each_outcome_as_a_labelled_event(quiet: Run) -> None:
    assert quiet.eventually(lambda: learned_when_back(quiet) >= 0)
    before = learned(quiet, "demand")
    finished(simulate(quiet, "--decisions", "100", "--entities", "2", "--model", "demand"))
    assert quiet.eventually(lambda: learned(quiet, "demand") == before + 100)


@pytest.mark.parametrize("victim", ["cli api", "cli learner", "redis-server"])
def test_a_simulation_outlives_a_kill_and_nothing_is_lost_or_doubled(victim: str, quiet: Run) -> None:
    before = joined(quiet)
    process = simulate(quiet, "--decisions", "600", "--entities", "2", "--rate", "100")
    time.sleep(2)
    os.kill(quiet.member(victim), signal.SIGKILL)
    result = finished(process)
    assert result["outcomes"] == {"sent": 600, "lost": 0, "doubled": 0, "refused": 0}
    assert quiet.eventually(lambda: learned_when_back(quiet) >= 0)
    after = joined(quiet)
    assert (after[0] - before[0], after[1] - before[1]) == (600, 600)


def test_a_simulation_that_is_killed_itself_goes_on_under_its_name_as_if_it_never_had_been(quiet: Run) -> None:
    mishaps = ("--delay", "2", "--loss", "0.05", "--dup", "0.1")
    arguments = ("--decisions", "600", "--entities", "3", "--seed", "11", "--run", "killed", *mishaps)
    before = joined(quiet)
    process = simulate(quiet, *arguments, "--rate", "25")
    assert quiet.eventually(lambda: joined(quiet)[0] - before[0] >= 200)
    process.kill()
    process.communicate()
    cut = joined(quiet)
    assert 200 <= cut[0] - before[0] < 600
    resumed = finished(simulate(quiet, *arguments))
    after = joined(quiet)
    assert after[0] - before[0] == 600
    assert after[1] - before[1] == 600 - resumed["outcomes"]["lost"]
    again = finished(simulate(quiet, *arguments))
    assert joined(quiet) == after
    assert again["earned"] == resumed["earned"]


def test_a_simulation_stops_politely_and_says_what_was_earned(quiet: Run) -> None:
    before = joined(quiet)[0]
    process = simulate(quiet, "--decisions", "0", "--rate", "50")
    assert quiet.eventually(lambda: joined(quiet)[0] > before)
    process.send_signal(signal.SIGINT)
    result = finished(process)
    assert result["stopped"]
    assert 0 < result["decisions"] == result["outcomes"]["sent"]


def test_a_point_that_does_not_exist_is_named_with_those_that_do(quiet: Run) -> None:
    command = [sys.executable, "-P", "-m", "service.cli", "simulate", "prize", "--url", quiet.url()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)
    assert done.returncode == 2
    assert "prize" in done.stderr
    assert "price" in done.stderr


def test_rows_of_a_file_are_learned_once_and_a_bad_one_is_named(quiet: Run, tmp_path: Path) -> None:
    before = learned(quiet, "demand")
    rows = [f"{price},20,1,{5 - price}" for price in (1.0, 2.0, 3.0)]
    (tmp_path / "sales.csv").write_text("\n".join(["price,stock,period,sold", *rows, "4.0,20,1,many"]))
    command = [sys.executable, "-P", "-m", "service.cli", "ingest", "demand", str(tmp_path / "sales.csv")]
    options = ["--label", "sold", "--url", quiet.url(), "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=SOON_S, check=False)
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert (result["rows"], result["accepted"]) == (4, 3)
    assert [line["line"] for line in result["rejected"]] == [4]
    assert quiet.eventually(lambda: learned(quiet, "demand") == before + 3)


def test_columns_of_a_file_are_keys_and_times_where_the_command_says_so(quiet: Run, tmp_path: Path) -> None:
    pipeline = [{"use": "linear_model.LinearRegression"}]
    declared = {"task": "regression", "key": "sku", "pipeline": pipeline, "features": {"price": {"type": "number"}}}
    made = httpx.put(f"{quiet.url()}/v1/models/keyed", json=declared, params={"actor": "ana", "reason": "by product"})
    assert made.is_success, made.text
    path = tmp_path / "sales.csv"
    path.write_text("sku,day,price,sold\n7,2026-01-01,1.5,2\n8,2026-01-02,2.5,1\n")
    done = trimtab(quiet, "ingest", "keyed", str(path), "--label", "sold", "--key", "sku", "--at", "day", "--json")
    assert json.loads(done.stdout)["accepted"] == 2, done.stderr
    assert quiet.eventually(lambda: learned(quiet, "keyed") == 2)
    wrong = trimtab(quiet, "ingest", "keyed", str(path), "--label", "sold", "--at", "nothing")
    assert wrong.returncode == 2
    absent = trimtab(quiet, "ingest", "keyed", str(path), "--label", "sold", "--key", "product")
    assert absent.returncode == 2
    assert "no column 'product'; it has: sku, day, price, sold" in " ".join(absent.stderr.split())


def test_digits_in_a_column_of_names_are_names(quiet: Run, tmp_path: Path) -> None:
    pipeline = [{"use": "linear_model.LinearRegression"}]
    declared = {"task": "regression", "pipeline": pipeline, "features": {"zip": {"type": "category"}}}
    made = httpx.put(f"{quiet.url()}/v1/models/zips", json=declared, params={"actor": "ana", "reason": "by town"})
    assert made.is_success, made.text
    path = tmp_path / "sales.csv"
    path.write_text("zip,sold\n01234,2\n99,1\n")
    done = trimtab(quiet, "ingest", "zips", str(path), "--label", "sold", "--json")
    assert json.loads(done.stdout)["accepted"] == 2, done.stdout


def test_what_was_set_aside_is_listed(quiet: Run) -> None:
    assert json.loads(trimtab(quiet, "rejects", "demand", "--json").stdout) == {"rejects": []}
    assert "nothing was set aside" in trimtab(quiet, "rejects", "demand").stdout
    unknown = trimtab(quiet, "rejects", "nothing")
    assert unknown.returncode == 2
    assert "demand" in unknown.stderr


def trimtab(run: Run, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "service.cli", *arguments, "--url", run.url()]
    return subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)


def test_an_operator_trains_registers_promotes_and_rolls_back_from_the_command_line(quiet: Run, tmp_path: Path) -> None:
    out = tmp_path / "exact.trimtab"
    ladder = "stock=20,periods=50,prices=0.5:4.25:0.25"
    made = trimtab(
        quiet, "train", "pricing", "--algo", "exact", "--params", ladder, "--out", str(out), "--register", "price"
    )
    assert made.returncode == 0, made.stderr
    listed = json.loads(trimtab(quiet, "policies", "price", "--json").stdout)
    (digest,) = [policy["digest"] for policy in listed["policies"]]
    refused = trimtab(quiet, "promote", "price", "ffff", "--reason", "because")
    assert refused.returncode == 2
    assert digest[:12] in refused.stderr
    promoted = trimtab(quiet, "promote", "price", digest[:8], "--reason", "it is the optimum", "--actor", "ann")
    assert promoted.returncode == 0, promoted.stderr
    assert quiet.eventually(lambda: serves(quiet) == digest)
    shown = trimtab(quiet, "policies", "price").stdout
    assert "it is the optimum (ann)" in shown
    assert "live" in shown
    result = finished(simulate(quiet, "--decisions", "400", "--entities", "8", "--seed", "2"))
    assert result["rivals"]["oracle"]["share"] == 1.0
    assert trimtab(quiet, "rollback", "price", "--reason", "enough").returncode == 0
    assert quiet.eventually(lambda: serves(quiet) is None)
    assert trimtab(quiet, "mode", "price", "off", "--reason", "holiday").returncode == 0
    assert quiet.eventually(lambda: quiet.get("/v1/points/price")["release"]["mode"] == "off")
    wrong = trimtab(quiet, "mode", "price", "sideways", "--reason", "why not")
    assert wrong.returncode == 2
    assert "apprentice" in wrong.stderr


def test_a_bandit_is_promoted_by_its_name_from_the_command_line(quiet: Run) -> None:
    table = {"world": "pricing", "params": {"prices": [1.0, 2.0]}, "bandits": ["offers"]}
    assert httpx.put(f"{quiet.url()}/v1/points/deal", json=table, trust_env=False).is_success
    refused = trimtab(quiet, "promote", "deal", "bandit:nobody", "--reason", "because")
    assert refused.returncode == 2
    assert "bandit:offers" in refused.stderr
    promoted = trimtab(quiet, "promote", "deal", "bandit:offers", "--reason", "it learns on the job")
    assert promoted.returncode == 0, promoted.stderr
    assert quiet.eventually(lambda: serves(quiet, "deal") == "bandit:offers")


def serves(run: Run, point: str = "price") -> str | None:
    """The name of the policy that the API serves by now."""
    incumbent: str | None = run.get(f"/v1/points/{point}")["release"]["incumbent"]
    return incumbent


def test_the_report_of_a_point_is_told_to_people_and_to_programs(quiet: Run) -> None:
    finished(simulate(quiet, "--decisions", "200", "--entities", "4"))
    joined(quiet)
    result = json.loads(trimtab(quiet, "report", "price", "--json").stdout)
    assert result["decisions"] >= 200
    assert result["states"]["rewarded"] >= 200
    words = trimtab(quiet, "report", "price").stdout
    assert f"the last {result['decisions']:,} decisions" in words
    assert "best-fixed-price" in words
