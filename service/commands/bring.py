"""`trimtab import`: a model made elsewhere becomes a bundle."""

import tomllib
from pathlib import Path

import gymnasium

from agents.bundle import BundleError
from agents.foreign import bundle_of
from envs import worlds
from service.commands.output import CommandError, UsageError, console
from service.commands.train import deliver, read_file


def run(model: Path, card: Path, out: Path | None, register: str | None, url: str, as_json: bool) -> None:
    """Try the model, write the bundle, and register it where asked to."""
    try:
        written = tomllib.loads(read_file(card).decode())
        bundle = bundle_of(read_file(model), written)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{card} is no TOML: {error}") from None
    except BundleError as error:
        raise CommandError(str(error)) from None
    if bundle.card.world not in worlds.WORLDS and bundle.card.world not in gymnasium.registry:
        known = ", ".join(worlds.WORLDS)
        console().print(f"{bundle.card.world!r} is no world ({known}) and no Gymnasium id: its card cannot be checked")
    deliver(bundle, out or model.with_suffix(".trimtab"), register, url, as_json)
