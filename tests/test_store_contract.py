"""The contract of a session store, as wsgi_oauth/sessions/store.py states it, checked for every store.

To check another store, add it to ``STORES`` and ``new_store`` in tests/conftest.py, and to ``SHARED`` if several
processes can share it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import STORES, new_store
from system_calls import KEY, OTHER, key, record

from wsgi_oauth import FileStore, SessionStore
from wsgi_oauth.sessions.redis import RedisStore
from wsgi_oauth.sessions.store import MAX_BYTES, Record

HERE = Path(__file__).parent
TIMEOUT = 30  # seconds after which a test has failed
SHARED: dict[str, Callable[[str], SessionStore]] = {
    "file": FileStore,
    "redis": RedisStore,
}  # stores of many processes, and how to open one


@pytest.fixture(params=[*STORES, *(["cluster"] if "redis" in STORES else [])])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SessionStore:
    """Run every test of this file with each kind of store, and with a cluster, which spreads sessions over servers."""
    return new_store(request.param, request, tmp_path)


@pytest.fixture
def pass_time(later: Callable[[float], None]) -> Callable[[float], None]:
    """Move the clock forward."""
    return later


@pytest.fixture(params=SHARED)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Return the kind and the address of a store for several processes."""
    where = request.getfixturevalue("redis_url") if request.param == "redis" else str(tmp_path / "shared")
    return request.param, where


class TestEveryStore:
    # Reading

    def test_a_stored_session_is_found(self, store: SessionStore):
        store.create(KEY, record(b"\x00\xff{}"))
        assert store.load(KEY) == b"\x00\xff{}"

    def test_a_session_may_be_empty(self, store: SessionStore):
        store.create(KEY, record(b""))
        assert store.load(KEY) == b""
        assert store.update(KEY, lambda _: record(b"x"))

    def test_an_unknown_key_is_none(self, store: SessionStore):
        store.create(OTHER, record())
        assert store.load(KEY) is None

    def test_a_malformed_key_opens_nothing(self, store: SessionStore):
        """S54"""
        store.create(KEY, record())
        for wrong in ("", "x", KEY[:-1], KEY + "0", KEY.upper(), f"{KEY}\n", f"../{KEY}", "\0", "\ud800", "a" * 300):
            assert store.load(wrong) is None
            assert not store.update(wrong, lambda _: pytest.fail("there is nothing to change"))
            store.delete(wrong)
        assert store.load(KEY) is not None

    def test_an_expired_session_is_unknown(self, store: SessionStore, pass_time: Callable[[float], None]):
        store.create(KEY, record(seconds=60))
        pass_time(59)
        assert store.load(KEY) == b"data"
        pass_time(2)
        assert store.load(KEY) is None
        assert not store.update(KEY, lambda _: pytest.fail("there is nothing to change"))
        assert store.load(KEY) is None

    def test_an_update_sets_a_new_expiry(self, store: SessionStore, pass_time: Callable[[float], None]):
        store.create(KEY, record(seconds=60))
        pass_time(50)
        store.update(KEY, lambda data: record(data, seconds=60))
        pass_time(50)
        assert store.load(KEY) == b"data"
        pass_time(11)
        assert store.load(KEY) is None

    def test_a_deleted_session_is_unknown(self, store: SessionStore):
        store.create(KEY, record())
        store.create(OTHER, record(b"stays"))
        store.delete(KEY)
        assert store.load(KEY) is None
        assert store.load(OTHER) == b"stays"

    def test_deleting_an_unknown_session_does_nothing(self, store: SessionStore):
        store.delete(KEY)
        store.create(KEY, record())
        store.delete(KEY)
        store.delete(KEY)

    def test_an_expired_session_can_be_deleted(self, store: SessionStore, pass_time: Callable[[float], None]):
        store.create(KEY, record(seconds=60))
        pass_time(61)
        store.delete(KEY)
        assert store.sweep() == 0

    # Size

    def test_the_largest_session_fits(self, store: SessionStore):
        store.create(KEY, record(b"a" * MAX_BYTES))
        assert store.load(KEY) == b"a" * MAX_BYTES
        assert store.update(KEY, lambda data: record(data.replace(b"a", b"b")))
        assert store.load(KEY) == b"b" * MAX_BYTES

    def test_a_larger_session_is_not_created(self, store: SessionStore):
        with pytest.raises(ValueError, match=str(MAX_BYTES)):
            store.create(KEY, record(b"a" * (MAX_BYTES + 1)))
        assert store.load(KEY) is None

    @pytest.mark.parametrize("move_to", [None, OTHER])
    def test_an_update_to_a_too_large_session_is_rejected(self, store: SessionStore, move_to: str | None):
        store.create(KEY, record())
        with pytest.raises(ValueError, match=str(MAX_BYTES)):
            store.update(KEY, lambda _: record(b"a" * (MAX_BYTES + 1)), move_to=move_to)
        assert store.load(KEY) == b"data"
        assert store.load(OTHER) is None
        assert store.update(KEY, lambda _: record(b"smaller"))  # and the lock was released

    # Updates

    def test_an_update_gets_the_newest_data_and_stores_the_result(self, store: SessionStore):
        store.create(KEY, record(b"1"))
        assert store.update(KEY, lambda data: record(data + b"2"))
        assert store.update(KEY, lambda data: record(data + b"3"))
        assert store.load(KEY) == b"123"

    def test_an_update_that_returns_none_changes_nothing(self, store: SessionStore, pass_time: Callable[[float], None]):
        store.create(KEY, record(seconds=60))
        assert store.update(KEY, lambda _: None)
        assert store.update(KEY, lambda _: None, move_to=OTHER)
        assert store.load(KEY) == b"data"
        assert store.load(OTHER) is None
        pass_time(61)
        assert store.load(KEY) is None

    def test_an_update_of_an_unknown_session_creates_nothing(self, store: SessionStore):
        assert not store.update(KEY, lambda _: pytest.fail("there is nothing to change"))
        assert not store.update(KEY, lambda _: pytest.fail("there is nothing to change"), move_to=OTHER)
        assert store.load(KEY) is None
        assert store.load(OTHER) is None

    def test_an_update_after_a_delete_finds_nothing(self, store: SessionStore):
        """S42"""
        store.create(KEY, record())
        store.delete(KEY)
        assert not store.update(KEY, lambda _: pytest.fail("there is nothing to change"))
        assert store.load(KEY) is None

    def test_a_moved_session_has_its_new_key_only(self, store: SessionStore):
        """S36"""
        store.create(KEY, record(b"old"))
        assert store.update(KEY, lambda data: record(data + b" and new"), move_to=OTHER)
        assert store.load(KEY) is None
        assert store.load(OTHER) == b"old and new"
        assert not store.update(KEY, lambda _: pytest.fail("there is nothing to change"))

    def test_a_session_can_be_moved_to_its_own_key(self, store: SessionStore):
        store.create(KEY, record(b"old"))
        assert store.update(KEY, lambda data: record(data + b" and new"), move_to=KEY)
        assert store.load(KEY) == b"old and new"

    @pytest.mark.parametrize("move_to", [None, OTHER])
    def test_an_update_whose_function_fails_changes_nothing(self, store: SessionStore, move_to: str | None):
        def fail(_: bytes) -> Record:
            raise ZeroDivisionError

        store.create(KEY, record())
        with pytest.raises(ZeroDivisionError):
            store.update(KEY, fail, move_to=move_to)
        assert store.load(KEY) == b"data"
        assert store.load(OTHER) is None
        assert store.update(KEY, lambda _: record(b"x"))  # and the lock was released

    # Iterating

    def test_keys_yields_each_key_once(self, store: SessionStore):
        assert list(store.keys()) == []
        for number in range(300):
            store.create(key(number), record())
        store.update(key(0), lambda _: record(b"updated"))
        store.update(key(1), lambda _: record(b"moved"), move_to=OTHER)
        store.delete(key(2))
        assert sorted(store.keys()) == sorted([OTHER, key(0), *map(key, range(3, 300))])

    def test_keys_misses_no_session_while_others_are_created_and_deleted(
        self, store: SessionStore, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("wsgi_oauth.sessions.redis._SCAN_COUNT", 50)  # so that it takes several commands
        stay = [key(f"stays {number}") for number in range(300)]
        for number, each in enumerate(stay):
            store.create(each, record())
            store.create(key(f"goes {number}"), record())
        given = []
        for number, each in enumerate(store.keys()):
            given.append(each)
            store.create(key(f"comes {number}"), record())
            store.delete(key(f"goes {number}"))
            store.delete(key(f"comes {number - 10}"))
        assert set(given) >= set(stay)

    def test_keys_can_be_abandoned_at_any_time(self, store: SessionStore):
        for number in range(100):
            store.create(key(number), record())
        for each in store.keys():
            store.delete(each)
            break
        assert len(list(store.keys())) == 99

    # Sweeping

    def test_sweep_deletes_all_expired_sessions_and_returns_their_number(
        self, store: SessionStore, pass_time: Callable[[float], None]
    ):
        for number in range(20):
            store.create(key(number), record(seconds=60 if number % 2 else 600))
        assert store.sweep() == 0
        pass_time(61)
        assert store.sweep() == (0 if isinstance(store, RedisStore) else 10)  # Redis deletes expired keys by itself
        assert store.sweep() == 0
        assert len(list(store.keys())) == 10
        assert [number for number in range(20) if store.load(key(number))] == [*range(0, 20, 2)]

    def test_creating_sessions_deletes_expired_ones(self, store: SessionStore, pass_time: Callable[[float], None]):
        """S59: without a call of sweep."""
        for number in range(100):
            store.create(key(number), record(seconds=60))
        pass_time(61)
        for number in range(200):
            store.create(key(f"new {number}"), record())
        assert store.sweep() == 0
        assert all(store.load(key(f"new {number}")) for number in range(200))

    def test_check_leaves_no_session_behind(self, store: SessionStore, pass_time: Callable[[float], None]):
        store.check()
        pass_time(86400)
        assert store.sweep() == 0

    # Threads

    def test_threads_that_update_one_session_lose_nothing(self, store: SessionStore):
        store.create(KEY, record(b"0"))
        with ThreadPoolExecutor(8) as threads:
            for done in [threads.submit(count_up, store, 50) for _ in range(8)]:
                done.result()
        assert store.load(KEY) == b"400"

    def test_a_reader_does_not_wait_for_an_update(self, store: SessionStore):
        store.create(KEY, record(b"old"))

        found: list[bytes | None] = []
        thread = threading.Thread(target=lambda: found.append(store.load(KEY)))

        def change(_: bytes) -> Record:
            thread.start()
            thread.join(2)
            assert found == [b"old"]
            return record(b"new")

        assert store.update(KEY, change)
        assert store.load(KEY) == b"new"

    def test_a_delete_waits_for_an_update_and_wins(self, store: SessionStore):
        """S42: otherwise the update would restore the session."""
        store.create(KEY, record())
        deleted = threading.Event()

        def delete() -> None:
            store.delete(KEY)
            deleted.set()

        def change(_: bytes) -> Record:
            thread.start()
            assert not deleted.wait(0.2)
            return record(b"updated")

        thread = threading.Thread(target=delete)
        store.update(KEY, change)
        thread.join(TIMEOUT)
        assert deleted.is_set()
        assert store.load(KEY) is None

    def test_an_update_waits_for_a_move_and_finds_nothing(self, store: SessionStore):
        store.create(KEY, record())
        outcome: list[bool] = []
        thread = threading.Thread(target=lambda: outcome.append(store.update(KEY, lambda _: record(b"late"))))

        def change(_: bytes) -> Record:
            thread.start()
            thread.join(0.2)
            assert not outcome
            return record(b"moved")

        store.update(KEY, change, move_to=OTHER)
        thread.join(TIMEOUT)
        assert outcome == [False]
        assert store.load(KEY) is None
        assert store.load(OTHER) == b"moved"

    def test_a_session_that_is_deleted_during_updates_stays_deleted(self, store: SessionStore):
        for round_ in range(20):
            store.create(key(round_), record(b"0"))
            with ThreadPoolExecutor(4) as threads:
                updates = [threads.submit(count_up, store, 5, key(round_)) for _ in range(3)]
                threads.submit(store.delete, key(round_)).result()
                for done in updates:
                    done.result()
            assert store.load(key(round_)) is None

    # Processes

    def test_processes_that_update_one_session_lose_nothing(self, shared: tuple[str, str]):
        store = SHARED[shared[0]](shared[1])
        store.create(KEY, record(b"0"))
        processes = [in_a_process("count_up_in_a_process", *shared) for _ in range(2)]
        assert [process.wait(TIMEOUT) for process in processes] == [0, 0]
        assert store.load(KEY) == b"500"

    def test_a_delete_is_seen_by_the_updates_of_another_process(self, shared: tuple[str, str]):
        """S42"""
        store = SHARED[shared[0]](shared[1])
        store.create(KEY, record(b"0"))
        process = in_a_process("count_up_until_it_is_deleted", *shared, stdout=subprocess.PIPE)
        assert process.stdout
        with process.stdout:
            assert process.stdout.readline()  # the other process has begun
            store.delete(KEY)
            process.stdout.read()
        assert process.wait(TIMEOUT) == 0
        assert store.load(KEY) is None


def count_up(store: SessionStore, times: int, of: str = KEY) -> None:
    for _ in range(times):
        store.update(of, lambda data: record(b"%d" % (int(data) + 1)))


def in_a_process(function: str, *arguments: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Call a function of this module in a new process."""
    script = f"import sys, test_store_contract; test_store_contract.{function}(*sys.argv[1:])"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environ, stdout=stdout)


def count_up_in_a_process(kind: str, place: str) -> None:
    count_up(SHARED[kind](place), 250)


def count_up_until_it_is_deleted(kind: str, place: str) -> None:
    store = SHARED[kind](place)
    for _ in range(100_000):
        if not store.update(KEY, lambda data: record(b"%d" % (int(data) + 1))):
            return
        print("updated", flush=True)  # noqa: T201
    sys.exit("it came back")
