"""Snapshots in an authenticated envelope: what is loaded was written by a holder of the secret, and is whole.

A snapshot is a pickle, so nothing is unpickled before its keyed hash was checked.
"""

import hmac
from hashlib import blake2b

from online.fold import Parts
from online.log import EntryId, Log, Partition

_MAGIC = b"TTS1"
_SIZE = 32


class SealBroken(ValueError):  # noqa: N818
    """Bytes that were not sealed under this secret for this place, or were altered since."""


def seal(secret: bytes, partition: Partition, cursor: EntryId, payload: bytes) -> bytes:
    """A snapshot's payload, bound to its partition and cursor."""
    return _MAGIC + _mac(secret, f"snapshot {partition} {cursor}", payload) + payload


def open_sealed(secret: bytes, partition: Partition, cursor: EntryId, sealed: bytes) -> bytes:
    """The payload of a sealed snapshot.

    Raises:
        SealBroken: It was altered, or belongs to another secret, partition or cursor.
    """
    return _open(secret, f"snapshot {partition} {cursor}", sealed)


def seal_part(secret: bytes, partition: Partition, name: str, payload: bytes) -> bytes:
    """A part of a snapshot, bound to its partition and name."""
    return _MAGIC + _mac(secret, f"part {partition} {name}", payload) + payload


def open_part(secret: bytes, partition: Partition, name: str, sealed: bytes) -> bytes:
    """The payload of a sealed part. Raises `SealBroken`."""
    return _open(secret, f"part {partition} {name}", sealed)


def sealed_parts(log: Log, partition: Partition, secret: bytes) -> Parts:
    """Fetches parts of a partition's last snapshot, opened."""

    def fetch(name: str) -> bytes | None:
        sealed = log.part(partition, name)
        return None if sealed is None else open_part(secret, partition, name, sealed)

    return fetch


def _mac(secret: bytes, place: str, payload: bytes) -> bytes:
    key = secret if len(secret) <= 64 else blake2b(secret).digest()
    about = place.encode()
    return blake2b(len(about).to_bytes(4, "big") + about + payload, key=key, digest_size=_SIZE).digest()


def _open(secret: bytes, place: str, sealed: bytes) -> bytes:
    begin = len(_MAGIC) + _SIZE
    payload = sealed[begin:]
    mac = sealed[len(_MAGIC) : begin]
    if not sealed.startswith(_MAGIC) or not hmac.compare_digest(mac, _mac(secret, place, payload)):
        raise SealBroken(f"the {place} was altered, or sealed under another secret: restore it, or replay the log")
    return payload
