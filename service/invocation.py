"""What all commands of the command line share: options of the same name, and how one is run."""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

FAILED, WRONG_USAGE = 1, 2
LOCAL = "http://127.0.0.1:8080"

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Url = Annotated[str, typer.Option(envvar="TRIMTAB_URL", help="Address of a running service.")]
Data = Annotated[Path | None, typer.Option(help="Data folder; .trimtab in this folder if left out.")]
ManifestFile = Annotated[Path | None, typer.Option(help="Manifest; trimtab.toml in this folder if left out.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all chance.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
Actor = Annotated[str, typer.Option(envvar="USER", help="Who; kept in the history.")]


def do(command: str, action: str = "run", **arguments: Any) -> None:
    """Run one command; what a user can mend ends as one line on stderr, never as a traceback."""
    from service.commands.output import CommandError, UsageError

    try:
        status = getattr(importlib.import_module(f"service.commands.{command}"), action)(**arguments)
    except UsageError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(WRONG_USAGE) from None
    except CommandError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(FAILED) from None
    except BrokenPipeError:
        # Whoever read our output has gone: nothing more can be said, also not by the interpreter on its way out.
        sys.stdout = None
        raise typer.Exit(FAILED) from None
    raise typer.Exit(status or 0)
