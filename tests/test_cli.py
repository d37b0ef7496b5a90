"""The command line: one JSON object on stdout, words on stderr, and an exit status that says what happened."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from agents.bundle import unpack
from service.cli import app

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}


def trimtab(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "service.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT | {"OMP_NUM_THREADS": "1"} | variables,
        timeout=120,
        check=False,
    )


def test_the_command_line_itself_loads_nothing_heavy() -> None:
    heavy = ("torch", "stable_baselines3", "river", "fastapi", "numpy", "redis", "onnxruntime")
    program = f"import sys, service.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_says_what_it_does() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    told = trimtab("--help").stdout
    assert len(names) >= 15
    assert all(name in told for name in names)


def test_worlds_are_listed_as_one_json_object() -> None:
    done = trimtab("worlds", "pricing", "--json")
    (world,) = json.loads(done.stdout)["worlds"]
    assert world["id"] == "pricing"
    assert {"stock", "periods", "volume", "sensitivity", "prices"} <= {field["name"] for field in world["parameters"]}
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("worlds", "nowhere"), "there is no world 'nowhere'"),
        (("evaluate", "exact", "--world", "pricing", "--params", "stock"), "'stock'"),
        (("evaluate", "exact", "--world", "pricing", "--params", "stock=-1"), "stock"),
        (("evaluate", "exact", "--world", "pricing", "--params", "colour=1"), "colour"),
        (("evaluate", "nothing", "--world", "pricing"), "best-fixed-price"),
        (("evaluate", "exact"), "--world"),
        (("simulate", "price", "--shift", "sensitivity=2"), "at=2000"),
        (("simulate", "price", "--loss", "2"), "--loss"),
        (("ingest", "demand", "missing.csv"), "no file"),
        (("train", "pricing", "--out", "nowhere/price.bundle"), "nowhere/price.bundle"),
        (("train", "pricing", "--algo", "foo"), "maskable-ppo, exact, best-fixed-price"),
        (("train", "CartPole-v1", "--algo", "exact"), "ppo, a2c, dqn, maskable-ppo"),
        (("train", "pricing", "--steps", "9", "--minutes", "2"), "--minutes 2"),
        (("train", "pricing", "--params", "prices=any"), "prices=0.5:4.25:0.25"),
        (("train", "pricing", "--algo", "exact", "--ranges", "volume=1:2"), "--ranges"),
        (("tune", "pricing", "--algo", "dqn"), "maskable-ppo"),
        (("tune", "pricing", "--held-out", "0.2"), "pricing is a world, and --held-out means nothing there"),
        (("tune", "churn", "--data", "Phishing", "--algo", "ppo"), "churn is a model, and --algo means nothing there"),
        (("evaluate", "myopic", "--world", "pricing", "--params", "prices=any"), "evaluate exact"),
        (("evaluate", "myopic", "--world", "pricing", "--ranges", "volume=2:1"), "volume=2:1"),
        (("simulate", "price", "--url", "foo"), "http://127.0.0.1:8080"),
        (("simulate", "price", "--decisions", "50", "--shift", "at=50,sensitivity=2"), "never comes"),
        (("nothing",), "nothing"),
        (("api",), "TRIMTAB_REDIS"),
    ],
)
def test_wrong_usage_is_named_and_ends_with_2(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = trimtab(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_version_and_the_short_option_for_help() -> None:
    done = trimtab("--version")
    assert done.returncode == 0
    assert done.stdout == f"trimtab {version('trimtab')}\n"
    assert trimtab("train", "-h").stdout == trimtab("train", "--help").stdout


def test_the_doctor_minds_that_a_service_which_was_named_is_away(tmp_path: Path) -> None:
    done = trimtab("doctor", "--url", "http://127.0.0.1:9", "--json", cwd=tmp_path)
    assert done.returncode == 1
    checks = {check["name"]: check["ok"] for check in json.loads(done.stdout)["checks"]}
    assert not checks["service"]
    assert trimtab("doctor", cwd=tmp_path).returncode == 0


def test_a_training_is_kept_in_the_data_folder_and_comes_back(tmp_path: Path) -> None:
    options = ("--params", SMALL, "--algo", "exact", "--out", "exact.trimtab", "--data", "data", "--json")
    trained = trimtab("train", "pricing", *options, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    run = json.loads(trained.stdout)["run"]
    listed = json.loads(trimtab("lineage", "--data", "data", "--json", cwd=tmp_path).stdout)
    (kept,) = listed["runs"]
    assert (kept["id"], kept["algo"], kept["metrics"]["gap_share"]) == (run, "exact", pytest.approx(0, abs=1e-9))
    back = trimtab("lineage", run[:8], "--data", "data", "--out", "back.trimtab", cwd=tmp_path)
    assert back.returncode == 0, back.stderr
    assert (tmp_path / "back.trimtab").read_bytes() == (tmp_path / "exact.trimtab").read_bytes()
    assert trimtab("lineage", "zz", "--data", "data", cwd=tmp_path).returncode == 2


def test_what_fails_ends_with_1_and_one_line(tmp_path: Path) -> None:
    done = trimtab("policies", "price", "--url", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "http://127.0.0.1:9" in done.stderr


def test_up_without_a_manifest_says_what_to_do(tmp_path: Path) -> None:
    done = trimtab("up", cwd=tmp_path)
    assert done.returncode == 2
    assert "trimtab.toml" in done.stderr
    assert "--demo" in done.stderr
    assert "--manifest" in done.stderr


def test_a_wrong_setting_is_named_and_ends_with_2(tmp_path: Path) -> None:
    done = trimtab("up", "--demo", cwd=tmp_path, TRIMTAB_HOST="0.0.0.0")
    assert done.returncode == 2
    assert "127.0.0.1" in done.stderr


PUBLISHED = "stock=20,periods=50,volume=2.718281828,sensitivity=1,prices="


def test_the_exact_optimum_of_the_published_instance_on_its_ladder() -> None:
    done = trimtab("evaluate", "exact", "--world", "pricing", "--params", f"{PUBLISHED}0.5:4.25:0.25", "--json")
    result = json.loads(done.stdout)
    assert result["value"] == pytest.approx(36.283158, abs=5e-7)
    assert result["baselines"]["best-fixed-price"]["value"] == pytest.approx(34.7032, abs=5e-5)
    assert result["baselines"]["best-fixed-price"]["price"] == 2.0
    assert "backward induction" in result["method"]
    assert result["gap_share"] == 0


def test_the_exact_optimum_of_the_published_instance_at_any_price() -> None:
    done = trimtab("evaluate", "exact", "--world", "pricing", "--params", f"{PUBLISHED}any", "--json")
    result = json.loads(done.stdout)
    assert result["value"] == pytest.approx(36.338128, abs=5e-7)
    assert result["baselines"]["best-fixed-price"]["value"] == pytest.approx(34.921420, abs=5e-7)
    assert result["baselines"]["best-fixed-price"]["price"] == pytest.approx(1.9192, abs=5e-5)


def test_a_baseline_is_evaluated_exactly_beside_the_others() -> None:
    done = trimtab(
        "evaluate", "best-fixed-price", "--world", "pricing", "--params", f"{PUBLISHED}0.5:4.25:0.25", "--json"
    )
    result = json.loads(done.stdout)
    assert result["value"] == pytest.approx(34.7032, abs=5e-5)
    assert result["gap_share"] == pytest.approx(1 - 34.7032 / 36.283158, abs=1e-5)


SMALL = "stock=5,periods=10,prices=0.5:4.25:0.25"


def test_a_trained_bundle_is_a_file_that_can_be_evaluated_where_it_was_trained(tmp_path: Path) -> None:
    out = tmp_path / "policy.trimtab"
    options = ("--params", SMALL, "--steps", "20000", "--seed", "3", "--out", str(out), "--json")
    trained = trimtab("train", "pricing", *options, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["bundle"] == str(out)
    evaluated = json.loads(trimtab("evaluate", str(out), "--json").stdout)
    assert evaluated["policy"] == result["digest"]
    assert evaluated["method"] == "exact"
    assert evaluated["value"] == pytest.approx(result["metrics"]["value"], rel=1e-4)
    assert 0 <= evaluated["gap_share"] < 0.5
    elsewhere = trimtab("evaluate", str(out), "--world", "inventory")
    assert elsewhere.returncode == 2
    assert "pricing" in elsewhere.stderr


def test_a_policy_is_evaluated_in_held_out_worlds_and_drawn(tmp_path: Path) -> None:
    out, ranges = tmp_path / "policy.trimtab", "volume=1:5,sensitivity=0.5:2"
    small = ("--params", SMALL, "--ranges", ranges)
    trained = trimtab("train", "pricing", *small, "--steps", "20000", "--out", str(out), "--json", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    files = ("--html", str(tmp_path / "page.html"), "--plot", str(tmp_path / "page.png"))
    done = trimtab("evaluate", str(out), "--ranges", ranges, "--draws", "8", *files, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    shares = [world["gap_share"] for world in result["worlds"]]
    assert len(shares) == 8
    assert result["gap_share"]["mean"] == pytest.approx(sum(shares) / 8)
    assert result["gap_share"]["max"] == max(shares)
    assert result["gap_share"]["interval"][0] < result["gap_share"]["mean"] < result["gap_share"]["interval"][1]
    # A rule that solves each world by its fluid model anew is hard to beat; none beats the optimum.
    assert 0 <= result["baselines"]["ce-resolve"]["gap_share"]["mean"] < 0.1
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    assert "by parameter" in (tmp_path / "page.html").read_text()
    again = trimtab("evaluate", "exact", "--world", "pricing", *small, "--draws", "8", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["gap_share"]["max"] == 0
    assert json.loads(again.stdout)["worlds"][3]["params"] == result["worlds"][3]["params"]


def test_a_page_of_one_world_holds_its_policy_map_and_the_optimal_one(tmp_path: Path) -> None:
    files = ("--html", "page.html", "--plot", "page.png")
    done = trimtab("evaluate", "myopic", "--world", "pricing", "--params", SMALL, *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "page.html").read_text()
    assert "Price (money), myopic" in text
    assert "Price (money), optimal" in text
    assert (tmp_path / "page.png").stat().st_size > 10_000
    for option in (("--plot", "page.jpg"), ("--html", "nowhere/page.html")):
        refused = trimtab("evaluate", "myopic", "--world", "pricing", *option, cwd=tmp_path)
        assert refused.returncode == 2
        assert option[1] in refused.stderr


def test_a_bundle_that_was_altered_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.trimtab").write_bytes(b"trimtab-bundle 1\n" + bytes(100))
    done = trimtab("evaluate", "policy.trimtab", cwd=tmp_path)
    assert done.returncode == 1
    assert "altered" in done.stderr


MANIFEST = Path(__file__).resolve().parent.parent / "trimtab.toml"


@pytest.mark.parametrize(
    "options", [(), ("--restart-at", "600"), ("--log", "redis"), ("--log", "redis", "--restart-at", "600")]
)
def test_the_published_accuracy_on_phishing_through_each_log_and_over_a_restart(options: tuple[str, ...]) -> None:
    done = trimtab("backtest", "phishing", "--manifest", str(MANIFEST), "--data", "Phishing", "--json", *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["metrics"]["Accuracy"] == 0.8872
    assert result["counts"]["learned"] == result["rows"] == 1250
    assert result["restarts"] == ("--restart-at" in options)


def test_a_file_is_backtested_with_late_and_missing_labels_and_known_changes(tmp_path: Path) -> None:
    (tmp_path / "trimtab.toml").write_text(
        """
        [models.level]
        task = "regression"
        pipeline = [{use = "dummy.StatisticRegressor", statistic = {use = "stats.Mean"}}]
        metrics = ["MAE"]
        detectors = {error = {use = "drift.ADWIN"}}
        """
    )
    lines = [
        f"{2026 + row // 9000}-01-01T00:00:{row % 60:02d},{row},{10.0 if row >= 1000 else 0.0}" for row in range(1500)
    ]
    (tmp_path / "level.csv").write_text("\n".join(["time,row,level", *lines]))
    options = ("--data", "level.csv", "--label", "level", "--drifts", "1000", "--json")
    done = trimtab("backtest", "level", *options, "--label-delay", "20rows", "--label-probability", "0.5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["rows"] == 1500
    # Five standard deviations of a binomial count.
    assert result["counts"]["labelled"] == pytest.approx(750, abs=97)
    assert result["missed"] == 0
    assert 0 < result["delays"][0] < 200


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("phishing", "--data", "Phish"), "Phishing"),
        (("nothing", "--data", "Phishing"), "phishing"),
        (("phishing", "--data", "Phishing", "--label-delay", "soon"), "30min"),
        (("phishing", "--data", "Phishing", "--log", "paper"), "memory or redis"),
        (("phishing", "--data", "Phishing", "--at", "when"), "when"),
        (("phishing", "--data", "Phishing", "--drifts", "a"), "100,200"),
    ],
)
def test_a_backtest_that_cannot_be_done_says_what_can(arguments: tuple[str, ...], told: str) -> None:
    done = trimtab("backtest", *arguments, "--manifest", str(MANIFEST))
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert done.stdout == ""


def test_a_training_on_a_registered_environment_takes_no_world_parameters(tmp_path: Path) -> None:
    done = trimtab("train", "CartPole-v1", "--steps", "2000", "--out", "cart.trimtab", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["world"] == "CartPole-v1"
    assert (tmp_path / "cart.trimtab").stat().st_size > 1000
    for options in (("--params", "a=1"), ("--resume",)):
        refused = trimtab("train", "CartPole-v1", *options, cwd=tmp_path)
        assert refused.returncode == 2
        assert options[0] in refused.stderr
    unknown = trimtab("train", "Nowhere-v0", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "pricing" in unknown.stderr


def test_a_search_writes_a_preset_that_training_takes(tmp_path: Path) -> None:
    options = ("--params", SMALL, "--trials", "2", "--steps", "4000", "--out", "found.toml", "--json")
    done = trimtab("tune", "pricing", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["trials"] == 2
    assert result["settings"]["algo"] == "ppo"
    trained = trimtab("train", "pricing", "--params", SMALL, "--preset", "found.toml", "--steps", "4000", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "wrong.toml").write_text("speed = 3\n")
    wrong = trimtab("train", "pricing", "--preset", "wrong.toml", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "speed" in wrong.stderr


def test_a_model_from_elsewhere_needs_a_card_that_fits_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    (tmp_path / "card.toml").write_text('world = "pricing"')
    refused = trimtab("import", "model.onnx", "--card", "card.toml", cwd=tmp_path)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    missing = trimtab("import", "model.onnx", "--card", "none.toml", cwd=tmp_path)
    assert missing.returncode == 2
    assert "none.toml" in missing.stderr
    (tmp_path / "card.toml").write_text("world =")
    assert trimtab("import", "model.onnx", "--card", "card.toml", cwd=tmp_path).returncode == 2


def test_a_graph_and_its_card_become_a_bundle_that_can_be_evaluated(tmp_path: Path) -> None:
    trained = trimtab("train", "pricing", "--algo", "exact", "--params", SMALL, "--out", "exact.trimtab", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    bundle = unpack((tmp_path / "exact.trimtab").read_bytes())
    (tmp_path / "model.onnx").write_bytes(bundle.onnx)
    observed = "".join(
        f'[[observation]]\nname = "{field.name}"\nunit = "{field.unit}"\nlow = {field.low}\nhigh = {field.high}\n'
        for field in bundle.card.observation
    )
    (tmp_path / "card.toml").write_text(
        f"""
        world = "pricing"
        output = "{bundle.card.output}"
        params = {{stock = 5, periods = 10, prices = "0.5:4.25:0.25"}}
        [actions]
        name = "price"
        n = 16
        unit = "{bundle.card.actions.unit}"
        values = {list(bundle.card.actions.values or ())}
        {observed}"""
    )
    imported = trimtab(
        "import", "model.onnx", "--card", "card.toml", "--out", "foreign.trimtab", "--json", cwd=tmp_path
    )
    assert imported.returncode == 0, imported.stderr
    values = [
        json.loads(trimtab("evaluate", name, "--json", cwd=tmp_path).stdout)["value"]
        for name in ("exact.trimtab", "foreign.trimtab")
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
