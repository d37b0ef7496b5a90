"""Who can reach the service: while there are no keys, this machine alone."""

from online.log import Log, LogUnavailable
from service.access.ledger import KeyLog
from service.settings import Settings, SettingsError, is_loopback


def is_private(settings: Settings) -> bool:
    """Whether whoever reaches the service may be answered without a key, as long as there are none."""
    return settings.trust_network or is_loopback(settings.host)


def check_reach(settings: Settings, log: Log) -> None:
    """Refuses to listen to strangers while there are no keys to tell them apart.

    A store that does not answer proves nothing: the service starts, and its door stays shut.

    Raises:
        SettingsError: Others can reach the host, and no key was ever issued.
    """
    if is_private(settings):
        return
    try:
        keys = KeyLog(log, settings.secret.get_secret_value().encode()).follow().keys
    except LogUnavailable:
        return
    if not keys:
        raise SettingsError(
            f"TRIMTAB_HOST: host {settings.host!r} can be reached by others and there are no API keys to tell them "
            "apart: listen on 127.0.0.1 and make the first one (`trimtab keys create`), or set TRIMTAB_TRUST_NETWORK=1 "
            "where the network itself keeps strangers out"
        )
