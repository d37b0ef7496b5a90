import pytest

from online.log import Commit, EntryId, Partition
from online.memory_log import MemoryLog
from online.snapshot import SealBroken, open_part, open_sealed, seal, seal_part, sealed_parts

HERE = Partition("model:m", 0)
AT = EntryId(7, 3)
SECRET = b"s" * 32


def test_what_was_sealed_opens_with_the_same_secret_at_the_same_place() -> None:
    for payload in (b"", b"state", bytes(range(256)) * 100):
        assert open_sealed(SECRET, HERE, AT, seal(SECRET, HERE, AT, payload)) == payload
    assert open_sealed(b"x" * 100, HERE, AT, seal(b"x" * 100, HERE, AT, b"long secrets too")) == b"long secrets too"


def test_every_flipped_bit_is_noticed() -> None:
    sealed = seal(SECRET, HERE, AT, b"the state of a model")
    for position in range(len(sealed) * 8):
        altered = bytearray(sealed)
        altered[position // 8] ^= 1 << position % 8
        with pytest.raises(SealBroken):
            open_sealed(SECRET, HERE, AT, bytes(altered))


def test_a_cut_snapshot_is_noticed() -> None:
    sealed = seal(SECRET, HERE, AT, b"the state of a model")
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            open_sealed(SECRET, HERE, AT, sealed[:length])


def test_a_snapshot_opens_nowhere_else() -> None:
    sealed = seal(SECRET, HERE, AT, b"state")
    for secret, partition, cursor in (
        (b"t" * 32, HERE, AT),
        (SECRET, Partition("model:m", 1), AT),
        (SECRET, Partition("model:n", 0), AT),
        (SECRET, HERE, EntryId(7, 4)),
    ):
        with pytest.raises(SealBroken):
            open_sealed(secret, partition, cursor, sealed)
    with pytest.raises(SealBroken):
        open_part(SECRET, HERE, str(AT), sealed)


def test_parts_are_fetched_opened_and_bound_to_their_names() -> None:
    log = MemoryLog()
    epoch = log.acquire(HERE, "a")
    good = seal_part(SECRET, HERE, "key:a", b"A")
    log.commit(HERE, epoch, Commit(EntryId(0, 0), b"s", parts={"key:a": good, "key:b": good}))
    fetch = sealed_parts(log, HERE, SECRET)
    assert fetch("key:a") == b"A"
    assert fetch("key:none") is None
    with pytest.raises(SealBroken):
        fetch("key:b")
