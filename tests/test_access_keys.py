"""API keys: who is let in, to what, until when; and how often."""

import pytest

from service.access.keys import SCOPES, Allowance, DeniedError, Ended, Issued, Keyring, digest, token

SECRET = "s" * 43


def issued(name: str = "k1", scopes: tuple = ("decide",), subjects: tuple = (), expires: float | None = None) -> Issued:
    return Issued(name, digest(SECRET), scopes, subjects, expires, 0.0, "ana", "the shop")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("held", SCOPES)
def test_a_key_may_do_what_its_scopes_name_and_an_admin_key_everything(scope, held):
    ring = Keyring.of([issued(scopes=(held,))])
    if held in (scope, "admin"):
        assert ring.admit(token("k1", SECRET), scope, None, 1.0).key == "k1"
    else:
        with pytest.raises(DeniedError, match=f"this needs {scope}") as denied:
            ring.admit(token("k1", SECRET), scope, None, 1.0)
        assert denied.value.known


@pytest.mark.parametrize("subject", ["point:rival", "model:price", None])
def test_a_key_for_one_point_is_of_no_use_elsewhere_nor_for_the_whole_service(subject):
    ring = Keyring.of([issued(subjects=("point:price",))])
    assert ring.admit(token("k1", SECRET), "decide", "point:price", 1.0).key == "k1"
    with pytest.raises(DeniedError, match="point:price alone") as denied:
        ring.admit(token("k1", SECRET), "decide", subject, 1.0)
    assert denied.value.known


@pytest.mark.parametrize(
    "given",
    ["", "tt", "tt_k1", "tt_k1_", f"tt_k2_{SECRET}", f"xx_k1_{SECRET}", f"tt_k1_{SECRET}x", f"tt_k1_{digest(SECRET)}"],
)
def test_what_is_no_key_is_refused_without_saying_which_keys_there_are(given):
    with pytest.raises(DeniedError, match="send a valid API key") as denied:
        Keyring.of([issued()]).admit(given, "decide", None, 1.0)
    assert not denied.value.known


def test_an_empty_ring_lets_nobody_in_not_even_with_the_digest_of_nothing():
    with pytest.raises(DeniedError):
        Keyring().admit("tt_k1_", "read", None, 0.0)


def test_a_key_ends_when_it_expires_and_at_once_when_it_is_revoked():
    ring = Keyring.of([issued(expires=10.0)])
    assert ring.admit(token("k1", SECRET), "decide", None, 9.9)
    with pytest.raises(DeniedError, match="expired or was revoked"):
        ring.admit(token("k1", SECRET), "decide", None, 10.0)
    revoked = ring.after(Ended("k1", 5.0, 5.0, "ana", "lost"))
    with pytest.raises(DeniedError, match="expired or was revoked"):
        revoked.admit(token("k1", SECRET), "decide", None, 5.0)


def test_an_end_never_moves_later_and_of_an_unknown_key_changes_nothing():
    ring = Keyring.of([issued(), Ended("k1", 5.0, 1.0, "ana", ""), Ended("k1", 50.0, 2.0, "eve", "")])
    assert ring.keys["k1"].expires == 5.0
    assert ring.after(Ended("k9", 1.0, 1.0, "eve", "")) == ring


def test_a_key_that_is_issued_once_more_behind_its_end_stays_ended():
    ring = Keyring.of([issued(), Ended("k1", 5.0, 1.0, "ana", "lost"), issued()])
    with pytest.raises(DeniedError, match="expired or was revoked"):
        ring.admit(token("k1", SECRET), "decide", None, 6.0)


def test_while_a_key_is_rotated_both_are_good():
    events = [issued("old"), issued("new"), Ended("old", 100.0, 1.0, "ana", "rotated")]
    ring = Keyring.of(events)
    for name in ("old", "new"):
        assert ring.admit(token(name, SECRET), "decide", None, 99.0).key == name
    with pytest.raises(DeniedError):
        ring.admit(token("old", SECRET), "decide", None, 100.0)


def test_a_rate_lets_a_burst_through_and_then_says_how_long_to_wait():
    allowance = Allowance(rate=2.0, burst=3.0, left=3.0, at=0.0)
    for _ in range(3):
        allowance = allowance.spend(0.0)
        assert isinstance(allowance, Allowance)
    assert allowance.spend(0.0) == 0.5
    assert allowance.spend(0.25) == 0.25
    refilled = allowance.spend(0.5)
    assert isinstance(refilled, Allowance)
    assert refilled.left == 0.0
    assert allowance.spend(1e6).left == 2.0
    assert allowance.spend(-5.0) == 0.5, "a clock that goes back refills nothing"
