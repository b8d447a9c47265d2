"""The judge of the chaos run accepts injected faults and kills as causes, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.application import kill_worker
from benchmarks.chaos import Summary, counted_events, logged_events, tracebacks
from benchmarks.faulty_provider import EXPIRES_IN, FAULT, ISSUED, REPLAYED, Event
from benchmarks.judge import (
    BROKEN,
    BUSY_MACHINE,
    FAULT_INJECTED,
    KILLED_IN_REFRESH,
    LIMIT_REACHED,
    SIGNED_IN_AFTER_SIGN_OUT,
    SIGNED_OUT,
    TIMEOUT,
    UPSTREAM_LIMIT,
    WORKER_KILLED,
    WRONG_USER,
    Exchange,
    Incident,
    Judge,
    Kill,
)

ALICE = "alice"
PORT = 40001  # the port of a worker's connection to the provider


def exchange(began: float, ended: float, result: str = "200", *, user: str = ALICE, idle_since: float = 0) -> Exchange:
    return Exchange(user, "profile", began, ended, result, idle_since or began)


def incident(what: str, began: float = 99.0, *, last_good: float = 0.0, signed_in_at: float = 0.0) -> Incident:
    """An incident at an exchange that ended at second 100."""
    result = "401" if what == SIGNED_OUT else what[:3]
    return Incident(what, exchange(began, 100.0, result), signed_in_at or began, last_good)


def fault(at: float, name: str = "profile.500", user: str = ALICE) -> Event:
    return Event(at, user, "refresh" if name.startswith(("refresh", "token")) else "profile", FAULT, name)


def refresh(at: float, kind: str, port: int = 1, fault: str = "") -> Event:
    return Event(at, ALICE, "refresh", kind, fault, "a refresh token", port)


def cause(found: Incident, *events: Event, exchanges: tuple[Exchange, ...] = (), kills: tuple[Kill, ...] = ()) -> str:
    return Judge([found.exchange, *exchanges], events, kills).cause(found)


@pytest.mark.parametrize(
    "what", [WRONG_USER, SIGNED_IN_AFTER_SIGN_OUT, "500 internal_error", "503 session_store_unavailable"]
)
def test_errors_of_the_application_have_no_accepted_cause(what: str):
    broken = exchange(99, 100, BROKEN)
    assert cause(incident(what), fault(99.5), exchanges=(broken,) * 50, kills=(Kill(99.4, 99.5),)) == ""


def test_server_error_needs_a_fault_of_the_same_user_before_its_end():
    error = incident("502 provider_error")
    assert cause(error, fault(99.5)) == FAULT_INJECTED
    assert not cause(error, fault(99.5, user="bob"))
    assert not cause(error, fault(100.5))
    assert not cause(error, fault(98.5))


def test_request_that_waits_for_a_refresh_fails_with_the_fault_of_the_other_request():
    error, other = incident("502 provider_unreachable"), exchange(98.0, 99.9, "502")
    assert cause(error, fault(98.5), exchanges=(other,)) == FAULT_INJECTED
    assert not cause(error, fault(98.5), exchanges=(exchange(98.0, 98.9, "502"),))


def test_busy_response_needs_as_many_other_requests_at_one_moment_as_the_limit():
    error = incident("503 provider_busy")
    at_once = [exchange(99.0, 101.0, user=f"user-{n}") for n in range(UPSTREAM_LIMIT)]
    in_turn = [exchange(99 + n / 100, 99.001 + n / 100, user=f"user-{n}") for n in range(UPSTREAM_LIMIT)]
    assert cause(error, exchanges=tuple(at_once)) == LIMIT_REACHED
    assert not cause(error, exchanges=tuple(at_once[1:]))
    assert not cause(error, fault(99.5), exchanges=tuple(in_turn))


def test_timeout_without_a_fault_must_have_lasted_as_long_as_the_deadline():
    assert cause(incident("504 provider_timeout", began=100.0 - TIMEOUT)) == BUSY_MACHINE
    assert not cause(incident("504 provider_timeout", began=100.1 - TIMEOUT))
    assert not cause(incident("502 provider_error", began=100.0 - TIMEOUT))


def test_request_that_waits_for_a_refresh_fails_with_the_timeout_of_the_other_request():
    waiting = incident("502 provider_unreachable", began=99.5)
    assert cause(waiting, exchanges=(exchange(99.9 - TIMEOUT, 99.9, "504"),)) == BUSY_MACHINE


def test_broken_connection_needs_a_kill_while_the_connection_was_open():
    broken = Incident(BROKEN, exchange(99.0, 100.0, BROKEN, idle_since=98.0), 99.0)
    for kill in (Kill(99.4, 99.5), Kill(97.5, 98.1), Kill(98.2, 98.5), Kill(99.9, 101.0)):
        assert cause(broken, kills=(kill,)) == WORKER_KILLED
    assert not cause(broken, kills=(Kill(97.0, 97.9), Kill(100.1, 100.2)))


@pytest.mark.parametrize("ended", [99.5, 100.1])
def test_callback_may_fail_when_the_response_to_its_first_copy_was_lost(ended: float):
    """The browser may notice the lost response after that to the second copy."""
    error = incident("400 no_login_in_progress", signed_in_at=95.0)
    kill = Kill(99.2, 99.4)
    assert cause(error, exchanges=(exchange(99.1, ended, BROKEN),), kills=(kill,)) == WORKER_KILLED
    assert not cause(error, exchanges=(exchange(99.1, ended, BROKEN),))
    assert not cause(error, exchanges=(exchange(94.0, 94.9, BROKEN),), kills=(Kill(94.5, 94.6),))


def test_session_that_ended_without_a_refusal_by_the_provider_is_lost():
    signed_out = incident(SIGNED_OUT, signed_in_at=50.0, last_good=98.0)
    killed = {"exchanges": (exchange(98.0, 98.7, BROKEN),), "kills": (Kill(98.5, 98.6, frozenset({PORT})),)}
    assert not cause(signed_out)
    assert not cause(signed_out, refresh(98.5, ISSUED, PORT), **killed)
    assert not cause(signed_out, fault(60, "token.500"), refresh(70, ISSUED))
    assert not cause(signed_out, fault(97, "profile.401"))


def test_session_may_end_when_a_fault_rejects_the_token_or_spoils_the_refresh():
    signed_out = incident(SIGNED_OUT, signed_in_at=50.0, last_good=98.0)
    for name in ("profile.401", "refresh.invalid_grant", "token.cut_body"):
        assert cause(signed_out, fault(99, name)) == FAULT_INJECTED
    spoiled = refresh(70, ISSUED, fault="token.access_token_missing")
    assert cause(signed_out, spoiled, refresh(99, REPLAYED)) == FAULT_INJECTED


def test_session_may_not_end_when_the_provider_answers_400_without_a_reason():
    assert not cause(incident(SIGNED_OUT, signed_in_at=50.0, last_good=98.0), fault(99, "profile.400"))


@pytest.mark.parametrize("sender", [ISSUED, REPLAYED])
@pytest.mark.parametrize("processed_after_kill", [False, True])
def test_worker_killed_during_a_refresh_costs_the_session(sender: str, processed_after_kill: bool):
    """The provider may process the request of the killed worker before or after the request of another worker."""
    signed_out = incident(SIGNED_OUT, signed_in_at=50.0, last_good=98.0)
    kill = Kill(89.9, 90.0, frozenset({PORT}))
    first, second = (92.0, 95.0) if processed_after_kill else (89.5, 95.0)
    refreshes = [
        refresh(first, ISSUED, PORT if sender == ISSUED else 1),
        refresh(second, REPLAYED, PORT if sender == REPLAYED else 1),
    ]
    broken = exchange(89.0, 90.0, BROKEN)
    assert cause(signed_out, *refreshes, exchanges=(broken,), kills=(kill,)) == KILLED_IN_REFRESH
    assert not cause(signed_out, *refreshes, exchanges=(broken,), kills=(kill._replace(ports=frozenset()),))
    assert not cause(signed_out, *refreshes, exchanges=(exchange(89.0, 89.8),), kills=(kill,))


def test_refresh_token_that_a_live_worker_used_twice_is_a_lost_session():
    signed_out = incident(SIGNED_OUT, signed_in_at=50.0, last_good=98.0)
    assert not cause(signed_out, refresh(98.5, ISSUED), refresh(99, REPLAYED))


def test_session_may_end_when_the_refresh_timed_out_on_a_busy_machine():
    signed_out = incident(SIGNED_OUT, signed_in_at=50.0, last_good=80.0)
    refreshes = [refresh(92, ISSUED), refresh(99, REPLAYED)]
    timed_out = exchange(90, 95.1, "504")
    assert cause(signed_out, *refreshes, exchanges=(timed_out,)) == BUSY_MACHINE
    assert not cause(signed_out, fault(90.1, "profile.slow"), *refreshes, exchanges=(timed_out,))
    assert not cause(signed_out, *refreshes, exchanges=(exchange(90, 92.5, "504"),))
    assert not cause(signed_out, *refreshes, exchanges=(exchange(93, 98.1, "504"),))


def test_session_may_end_when_the_token_expired_within_one_slow_request():
    slow = incident(SIGNED_OUT, began=97.0, signed_in_at=50.0, last_good=90.0)
    assert cause(slow, refresh(99.9 - EXPIRES_IN / 2, ISSUED)) == BUSY_MACHINE
    assert not cause(slow, refresh(100.1 - EXPIRES_IN / 2, ISSUED))
    assert not cause(slow, refresh(96.9, ISSUED))


def test_killed_process_has_ended_when_the_kill_is_recorded():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        kill = kill_worker(process.pid)
        assert kill is not None
        assert Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    assert kill_worker(process.pid) is None


def test_killed_worker_is_recorded_with_the_ports_of_its_connections():
    program = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1]); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        kill = kill_worker(process.pid)
    assert kill is not None
    assert kill.ports == {port}


def test_tracebacks_in_the_log_are_found_and_counted():
    traceback = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\nRuntimeError: changed size'
    log = f"[INFO] started\n[ERROR] failed\n{traceback}\n[INFO] goes on\n{traceback}\n"
    assert tracebacks(log) == {traceback: 2}


@pytest.mark.parametrize(("value", "failed"), [(0, False), (1, True)])
def test_run_fails_when_a_count_exceeds_its_limit(value: int, failed: bool, capsys: pytest.CaptureFixture[str]):
    summary = Summary()
    summary.count("sessions lost", value, at_most=0)
    summary.show()
    assert summary.failed is failed
    assert ("FAILED" in capsys.readouterr().out) is failed


def test_audit_events_of_a_run_are_compared() -> None:
    log = (
        "[2026-11-30 08:00:00 +0000] [7] [INFO] [0c64f3f0a1b25d8e] sign_in success provider=demo\n"
        "[2026-11-30 08:00:00 +0000] [7] [WARNING] [0c64f3f0a1b2] access refused cause=not_allowed: sign_in success\n"
        "[2026-11-30 08:00:00 +0000] [7] [INFO] Booting worker\n"
    )
    metrics = 'wsgi_oauth_events_total{cause="",event="sign_in",outcome="success",provider="demo"} 1.0\n'
    assert logged_events(log) == {("sign_in", "success"): 1, ("access", "refused"): 1}
    assert counted_events(metrics) == {("sign_in", "success"): 1}
