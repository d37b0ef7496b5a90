"""`trimtab api`, `trimtab learner`, `trimtab adapter`: one process each, with settings from the environment."""

import logging
from collections.abc import Callable

from service import settings as environment
from service.commands.output import UsageError
from service.ending import leave
from service.settings import Settings, SettingsError

_OURS = ("envs", "agents", "online", "service")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def api() -> None:
    """Serve HTTP until SIGTERM."""
    from service import app

    _run(app.run)


def learner() -> None:
    """Learn until SIGTERM."""
    from service.processes import learners

    _run(learners.run)


def adapter() -> None:
    """Train until SIGTERM."""
    from service.processes import trainer

    _run(trainer.run)


def _run(process: Callable[[Settings], None]) -> None:
    from service.manifest import ManifestError

    try:
        settings = environment.read()
        if settings.redis is None:
            raise UsageError("TRIMTAB_REDIS is not set: give the URL of a Redis server, or let `trimtab up` embed one")
        # Our own words at the level asked for; of the libraries only what is wrong.
        logging.basicConfig(level=logging.WARNING, format=_FORMAT)
        for package in _OURS:
            logging.getLogger(package).setLevel(settings.log_level.upper())
        process(settings)
    except (SettingsError, ManifestError) as error:
        raise UsageError(str(error)) from None
    leave()
