"""The judge of the chaos run excuses what was done on purpose, and nothing else."""

from __future__ import annotations

import pytest

from benchmarks.chaos import BUSY, DYING, IN_A_REFRESH, TIMEOUT, Inquest, Summary, Trouble
from benchmarks.moody import ROTATED, Entry
from wsgi_oauth.config.settings import UPSTREAM_LIMIT

ALICE = "alice"


def inquest(*diary: Entry, kills: tuple[float, ...] = (), broken: tuple[Trouble, ...] = (), crowd: int = 0) -> Inquest:
    return Inquest(diary, list(kills), broken, [(99.0, 101.0)] * crowd)


def trouble(what: str, began: float = 99.0, **more: float) -> Trouble:
    return Trouble(what, ALICE, began, 100.0, **more)


def lost_answer(began: float, ended: float) -> Trouble:
    return Trouble(Trouble.BROKEN, ALICE, began, ended, "profile")


def fault(at: float, what: str = "profile.500", user: str = ALICE) -> Entry:
    return Entry(at, user, "refresh" if what.startswith(("refresh", "token")) else "profile", what)


INEXCUSABLE = [Trouble.WRONG_USER, Trouble.CAME_BACK, "500 internal_error", "503 session_store_unavailable"]


@pytest.mark.parametrize("what", INEXCUSABLE)
def test_no_fault_and_no_kill_excuses_what_is_ours(what: str):
    assert inquest(fault(99.5), kills=(99.5,), broken=(lost_answer(99, 100),), crowd=50).reason(trouble(what)) == ""


def test_a_server_error_needs_a_fault_for_this_very_user_before_it():
    error = trouble("502 provider_error")
    assert inquest(fault(99.5)).reason(error)
    assert not inquest(fault(99.5, user="bob")).reason(error)
    assert not inquest(fault(100.5)).reason(error)
    assert not inquest(fault(20.0)).reason(error)


def test_who_is_sent_away_must_have_met_a_crowd():
    error = trouble("503 provider_busy")
    assert inquest(crowd=UPSTREAM_LIMIT + 1).reason(error)
    assert not inquest(fault(99.5), crowd=UPSTREAM_LIMIT).reason(error)


def test_a_timeout_without_a_fault_has_waited_for_as_long_as_the_deadline():
    """Tests of many kinds run on machines that are busy: an honest provider may then be too slow, too."""
    assert inquest().reason(trouble("504 provider_timeout", began=100.0 - TIMEOUT)) == BUSY
    assert not inquest().reason(trouble("504 provider_timeout", began=100.1 - TIMEOUT))
    assert not inquest().reason(trouble("502 provider_error", began=100.0 - TIMEOUT))


def test_a_connection_that_broke_needs_a_kill_at_that_time():
    broken = lost_answer(99, 100)
    assert inquest(kills=(50.0, 99.5, 150.0)).reason(broken)
    assert not inquest(kills=(99 - 2 * DYING, 100.5)).reason(broken)


def test_a_session_that_is_gone_for_no_reason_is_lost():
    signed_out = trouble(Trouble.SIGNED_OUT, began=50.0, good=98.0)
    assert not inquest().reason(signed_out)
    assert not inquest(Entry(99, ALICE, "refresh", ROTATED), kills=(99.5,)).reason(signed_out)
    assert not inquest(fault(60, "token.500"), Entry(70, ALICE, "refresh", ROTATED)).reason(signed_out)
    assert not inquest(fault(97, "profile.401")).reason(signed_out)


def test_a_provider_that_refuses_the_token_or_spoils_the_last_refresh_has_ended_the_session():
    signed_out = trouble(Trouble.SIGNED_OUT, began=50.0, good=98.0)
    for what in ("profile.401", "refresh.invalid_grant", "token.cut_body"):
        assert inquest(fault(99, what)).reason(signed_out) == "the provider"
    assert inquest(Entry(60, ALICE, "refresh", ROTATED), fault(70, "token.cut_body")).reason(signed_out)


def test_a_kill_in_the_middle_of_a_refresh_costs_the_session_and_is_counted_by_itself():
    """S32: the refresh token that the provider has given was never stored."""
    signed_out = trouble(Trouble.SIGNED_OUT, began=50.0, good=98.0)
    rotated = Entry(99, ALICE, "refresh", ROTATED)
    killed = {"kills": (99.1,), "broken": (lost_answer(98.9, 99.2),)}
    assert inquest(rotated, **killed).reason(signed_out) == IN_A_REFRESH
    assert not inquest(rotated, kills=(99.1,), broken=(lost_answer(99.6, 99.7),)).reason(signed_out)


@pytest.mark.parametrize(("value", "failed"), [(0, False), (1, True)])
def test_one_of_what_must_not_be_fails_the_run(value: int, failed: bool, capsys: pytest.CaptureFixture[str]):
    summary = Summary()
    summary.count("sessions lost", value, at_most=0)
    summary.show()
    assert summary.failed is failed
    assert ("FAILED" in capsys.readouterr().out) is failed
