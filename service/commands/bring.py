"""`trimtab import`: a model made elsewhere becomes a bundle."""

import tomllib
from pathlib import Path

from agents.bundle import BundleError
from agents.foreign import bundle_of
from service.commands.output import CommandError, UsageError
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
    deliver(bundle, out or model.with_suffix(".trimtab"), register, url, as_json)
