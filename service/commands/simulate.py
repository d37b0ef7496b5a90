"""`trimtab simulate`."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from envs.dynamics import ParamsError
from envs.tabulate import StateSpaceTooLarge
from service.commands.output import CommandError, UsageError, console, finish, percent, shown, table
from service.outside import parameters
from service.outside.client import ServiceError, Stop
from service.outside.episodes import FIXED, FROZEN, ORACLE, Account, Regime
from service.outside.parameters import ParameterError
from service.outside.pictures import drawn
from service.outside.simulate import Plan, Progress, Result, fresh_run, simulate

_NAMES = {FIXED: "best fixed action", FROZEN: "optimum before the change", ORACLE: "oracle"}


def run(
    point: str,
    url: str,
    params: str,
    shifts: Sequence[str],
    schedule: Path | None,
    decisions: int,
    name: str | None,
    every: float,
    plot: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Play until done or Ctrl-C, then say what was earned."""
    try:
        plan = Plan(
            point=point,
            url=url.rstrip("/"),
            params=parameters.parse(params),
            shifts=[parameters.shift(text) for text in shifts] + _scheduled(schedule),
            decisions=decisions or None,
            every_s=every,
            run=name or fresh_run(),
            **given,
        )
        _require_reached(plan)
        result = asyncio.run(_play(plan, console()))
    except (ParameterError, ParamsError, StateSpaceTooLarge) as error:
        raise UsageError(str(error)) from None
    except ServiceError as error:
        raise (UsageError if error.unknown else CommandError)(str(error)) from None
    if not result.total.episodes:
        console().print(_too_short(result))
    if plot is not None:
        try:
            plot.write_bytes(drawn(result))
        except (OSError, ValueError) as error:
            raise CommandError(
                f"{plot} cannot be written ({error}); what was earned: {in_words(result.total)}"
            ) from None
    finish(result.summary(), as_json, lambda out: _show(out, result))


def _require_reached(plan: Plan) -> None:
    """Say before playing that a change would never come."""
    for at, _ in plan.shifts:
        if plan.decisions is not None and at >= plan.decisions:
            raise UsageError(
                f"a change at={at} never comes where {plan.decisions} decisions are asked for: give more --decisions"
            )


def _too_short(result: Result) -> str:
    """Why there is nothing to compare."""
    horizon = result.regimes[0][0].world.horizon if result.regimes else None
    length = "more" if horizon is None else f"{horizon * result.plan.entities:,} or more"
    ended = "was stopped" if result.stopped else f"asked for {result.decisions:,} decisions"
    return f"no episode was finished, so that nothing can be compared: this run {ended}, give --decisions {length}"


def _scheduled(path: Path | None) -> list[tuple[int, dict[str, Any]]]:
    if path is None:
        return []
    try:
        listed = msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
        return [(int(shift.pop("at")), shift) for shift in listed]
    except (OSError, msgspec.DecodeError, KeyError, ValueError) as error:
        raise UsageError(f'{path} is no list of shifts such as [{{"at": 2000, "sensitivity": 2}}] ({error})') from None


async def _play(plan: Plan, terminal: Console) -> Result:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return await simulate(plan, lambda progress: _tell(terminal, progress), stop)


def _tell(terminal: Console, progress: Progress) -> None:
    terminal.print(f"{progress.decisions:>9,} decisions  {progress.rate:>5.0f}/s  {in_words(progress.recent)}")
    if progress.news is not None:
        terminal.print(changed(progress.news, progress.decisions))


def in_words(account: Account) -> str:
    """What an account says, in one line."""
    if not account.episodes:
        return "no episode finished yet"
    return (
        f"{account.episodes} episodes, {shown(account.per_episode())} each: "
        f"{percent(account.share(FIXED))} of the best fixed action, {percent(account.share(ORACLE))} of the oracle"
    )


def changed(news: Regime, decisions: int) -> str:
    """A change of the hidden parameters, in one line."""
    changes = ", ".join(f"{name} = {shown(value)}" for name, value in news.changes.items())
    return f"after {decisions:,} decisions the hidden world has changed: {changes}"


def _show(out: Console, result: Result) -> None:
    accounts = [("all", result.total)] if len(result.regimes) > 1 else []
    accounts = [(_title(held), account) for held, account in result.regimes] + accounts
    columns = ("episodes", "per episode", "earned", *(f"of {name}" for name in _NAMES.values()))
    rows = [
        (title, account.episodes, account.per_episode(), account.earned, *(percent(account.share(n)) for n in _NAMES))
        for title, account in accounts
    ]
    counts = ", ".join(f"{number} {what}" for what, number in result.outcomes.items())
    out.print(f"{result.decisions:,} decisions in {result.seconds:.1f} s; outcomes: {counts}")
    out.print(table(("", *columns), rows))


def _title(held: Regime) -> str:
    if not held.changes:
        return "from the start"
    return f"from {held.since:,}: " + ", ".join(f"{name}={shown(value)}" for name, value in held.changes.items())
