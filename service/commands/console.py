"""`trimtab console`."""

from typing import NoReturn

from service.commands.output import CommandError, UsageError, results
from service.ending import leave
from service.processes.supervisor import StartError, free_port
from service.settings import SettingsError


def run(url: str | None, host: str | None, port: int | None) -> NoReturn:
    """Serve the console until SIGTERM."""
    try:
        from service.console import process, settings
    except ImportError as error:
        raise CommandError(f"the console needs more packages ({error}): pip install 'trimtab[console]'") from None
    try:
        told = settings.read(url=url, host=host, port=port)
        told = told.model_copy(update={"port": free_port(told.host, told.port)})
    except SettingsError as error:
        raise UsageError(str(error)) from None
    except StartError as error:
        raise CommandError(str(error)) from None
    results().print(f"the console is at http://{told.host}:{told.port}")
    process.run(told)
    leave()
