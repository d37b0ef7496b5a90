"""The audit chain: whatever is done to it is noticed, and where."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.access.audit import ROOT, Action, Sealed, seal, verify

KEY = b"a key of the service, long enough"


def chain(length: int, key: bytes = KEY) -> list[Sealed]:
    entries: list[Sealed] = []
    for number in range(1, length + 1):
        action = Action("promote", "point:price", "ana", f"reason {number}", float(number), details={"share": 0.1})
        entries.append(seal(key, entries[-1].seal if entries else ROOT, number, action))
    return entries


def renumbered(entries: list[Sealed]) -> list[Sealed]:
    return [replace(entry, number=number) for number, entry in enumerate(entries, 1)]


def test_an_untouched_chain_holds_with_every_head_that_was_ever_noted():
    entries = chain(5)
    assert verify(KEY, entries) is None
    assert verify(KEY, []) is None
    for entry in entries:
        assert verify(KEY, entries, entry.seal) is None


@given(st.integers(0, 4), st.sampled_from(["verb", "subject", "actor", "reason", "key"]))
def test_an_edited_entry_is_named(place, field):
    entries = chain(5)
    action = replace(entries[place].action, **{field: "something else"})
    entries[place] = replace(entries[place], action=action)
    broken = verify(KEY, entries)
    assert broken is not None
    assert broken.number == place + 1
    assert "edited" in broken.what


@given(st.integers(0, 3), st.booleans())
def test_a_deleted_entry_is_named_even_when_the_rest_is_renumbered(place, renumber):
    entries = chain(5)
    del entries[place]
    broken = verify(KEY, renumbered(entries) if renumber else entries)
    assert broken is not None
    assert broken.number == place + 1


@given(st.integers(0, 4), st.booleans())
def test_an_inserted_entry_is_named(place, renumber):
    entries = chain(5)
    before = entries[place - 1].seal if place else ROOT
    forged = seal(b"another key, just as long as ours", before, place + 1, Action("promote", "", "eve", "", 0.0))
    entries.insert(place, forged)
    broken = verify(KEY, renumbered(entries) if renumber else entries)
    assert broken is not None
    assert broken.number == place + 1


@given(st.permutations(range(5)), st.booleans())
def test_reordered_entries_are_named(order, renumber):
    entries = [chain(5)[place] for place in order]
    broken = verify(KEY, renumbered(entries) if renumber else entries)
    first = next((number for number, place in enumerate(order, 1) if place != number - 1), None)
    assert (broken and broken.number) == first


def test_a_cut_tail_is_noticed_against_a_head_that_was_noted():
    entries = chain(5)
    assert verify(KEY, entries[:3]) is None, "nothing in a shortened chain shows it: that is what the head is for"
    broken = verify(KEY, entries[:3], entries[4].seal)
    assert broken is not None
    assert "tail was cut" in broken.what


def test_another_key_holds_nothing():
    broken = verify(KEY, chain(3, b"another key, just as long as ours"))
    assert broken is not None
    assert broken.number == 1
