"""One file a session: the default store.

A session is the file ``<key>.json`` in the folder, and the file's modification time is the moment at which
the session expires; so neither a sweep nor an ``ls -l`` has to open anything. A new session gets its expiry
last of all: until then the modification time is the present, and the session counts as expired. A change goes
to a temporary file that is renamed over the old one. So whoever reads, and whatever is killed, finds a whole
session, old or new, or none. Exclusion is a ``flock`` on the session's own file, which the kernel releases when
a process dies; there are no lock files.

Nothing is synced: a kill of any kind loses nothing, a power cut may take back the last seconds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from operator import attrgetter
from typing import Any

from .. import errors
from .store import KEY, MAX_BYTES, Record, check_size

_SUFFIX = ".json"
_TEMPORARY = ".tmp"  # no key ends like this, so a temporary file is never loaded
_OURS = re.compile(r"[0-9a-f]{64}\.json(\.[0-9a-f]{16}\.tmp)?", re.ASCII)
_STALE = 3600.0  # seconds after which what is not finished has no living writer
_LOCK_TIMEOUT = 5.0  # seconds to wait for another's update, which takes far less than a millisecond
_REST = 8  # creates from a slice of a sweep in which nothing was over to the next one
_STAYING = 4  # entries of a slice that stay, at most
_REMOVED = 20  # sessions that a slice takes away, at most
_LOOKED_AT = 100  # entries of a slice, at most
_FIRST = 1000  # entries, among which a walk begins anywhere
_MOST_KEPT = 512  # sessions that are kept in memory
_SMALL = 16 * 1024  # bytes of each, at most
_SETTLED = 2.0  # seconds; clocks of file systems tick some hundred times in one

# No symbolic link is followed, a FIFO does not block, and no child process inherits the descriptor.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# What makes room may help against these.
_FULL = {errno.ENOSPC, errno.EDQUOT}

# What open(2) says of a path that is no file of ours: absent; a link; a socket or a device without a driver.
_ABSENT = {errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV, errno.ENAMETOOLONG}


class _Scan:
    """A walk through the folder that goes on where it stopped, and begins again when it is through.

    It begins anywhere among the first entries: or workers would walk side by side, and one that lives for a hundred
    creates would always see the same.
    """

    def __init__(self, folder: str) -> None:
        self.lock = threading.Lock()
        self._folder = folder
        self._entries: Any = None  # what os.scandir gives; it keeps a descriptor open

    def next_entry(self) -> os.DirEntry[str] | None:
        """Return None once at the end of each walk."""
        if self._entries is None:
            self._begin()
        entry = next(self._entries, None)
        if entry is None:
            self._entries = None
        return entry

    def _begin(self) -> None:
        self._entries = os.scandir(self._folder)
        ahead = random.randrange(_FIRST)  # noqa: S311  # no secret
        if sum(1 for _ in islice(self._entries, ahead)) < ahead:  # there are not so many
            self._entries = os.scandir(self._folder)

    def close(self) -> None:
        if self._entries is not None:
            self._entries.close()
            self._entries = None

    __del__ = close


class _Known:
    """Sessions that were read before, for as long as their files are the same: one look instead of a whole read.

    A file that has changed has another change time, which nobody can set. That holds for one that had not just been
    written when it was read: two changes within a tick of the file system's clock look like one.
    """

    def __init__(self) -> None:
        self._sessions: dict[str, tuple[bytes, tuple[int, ...], bytes]] = {}

    def get(self, key: str) -> bytes | None:
        kept = self._sessions.get(key)
        if kept is None:
            return None
        path, version, data = kept
        try:
            status = os.lstat(path)
        except OSError:  # reading will say what is wrong with the file
            return None
        return data if _version(status) == version and status.st_mtime > time.time() else None

    def keep(self, key: str, path: str, status: os.stat_result, data: bytes) -> None:
        if len(data) <= _SMALL and status.st_ctime < time.time() - _SETTLED:
            if len(self._sessions) >= _MOST_KEPT:
                self._sessions.clear()  # safe with threads, and cheaper than to know which were used last
            self._sessions[key] = os.fsencode(path), _version(status), data


# Of a stat result; quicker than a function, and asked with each request.
_version = attrgetter("st_ino", "st_ctime_ns")


class FileStore:
    """Sessions as files of mode 0600 in *folder*, which is made with mode 0700 when it is missing.

    See :class:`~wsgi_oauth.SessionStore` for what each method promises.

    :raises errors.ConfigError: when the folder belongs to somebody else, or others may write to it.
    :raises errors.StoreError: when it cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.path.abspath(os.fspath(folder))
        _prepare(self.folder)
        self._scans: dict[int, _Scan] = {}
        self._rest = 0  # creates until the next slice; that threads may miscount does no harm
        self._known = _Known()

    def load(self, key: str) -> bytes | None:
        known = self._known.get(key)
        if known is not None:
            return known
        path = self._path(key)
        if path is None:
            return None
        with _store_errors:
            return self._load(key, path)

    def create(self, key: str, record: Record) -> None:
        path = self._path(key)
        if path is None:
            raise ValueError("a key is 64 hexadecimal digits")
        try:
            self._write(path, record)
        except OSError as error:
            with _store_errors:
                self._write_after_all(path, record, error)
        self._rest -= 1
        if self._rest <= 0:
            self._rest = 1 if self._sweep_slice() else _REST

    def update(self, key: str, change: Callable[[bytes], Record | None], *, move_to: str | None = None) -> bool:
        path = self._path(key)
        target = self._path(move_to) if move_to else path
        if path is None or target is None:
            return False
        with _store_errors, _Locked(path) as found:
            data = None if found is None else _read(*found)
            if data is None:
                return False
            record = change(data)
            if record is not None:
                self._replace(target, record)
                if target != path:
                    _unlink_or_undo(path, target)
            return True

    def delete(self, key: str) -> None:
        path = self._path(key)
        if path is None:
            return
        with _store_errors, _Locked(path) as found:
            if found is not None:
                os.unlink(path)

    def keys(self) -> Iterator[str]:
        """See :class:`~wsgi_oauth.SessionStore`. On ext4 and XFS a file keeps its place in the listing when a new one
        is renamed over it. On others (btrfs, tmpfs) it gets a new place, so a session that is written during the walk
        may be left out or given twice.
        """
        with _store_errors, os.scandir(self.folder) as entries:
            for entry in entries:
                key, suffix = entry.name[: -len(_SUFFIX)], entry.name[-len(_SUFFIX) :]
                if suffix == _SUFFIX and KEY.fullmatch(key):
                    yield key

    def sweep(self) -> int:
        with _store_errors, os.scandir(self.folder) as entries:
            now, removed = time.time(), 0
            for entry in entries:
                removed += _remove_if_over(entry, now) is True
            return removed

    def check(self) -> None:
        key, record = secrets.token_hex(32), Record(b"{}", time.time() + 60)
        self.create(key, record)
        try:
            if not self.update(key, lambda _: record):
                raise errors.StoreError("the session store does not find what it has just stored")
        finally:
            self.delete(key)

    def _load(self, key: str, path: str) -> bytes | None:
        descriptor = _open(path)
        if descriptor is None:
            return None
        try:
            status = os.fstat(descriptor)
            data = _read(descriptor, status)
        finally:
            _close(descriptor)
        if data is not None:
            self._known.keep(key, path, status, data)
        return data

    def _path(self, key: str) -> str | None:
        return f"{self.folder}/{key}{_SUFFIX}" if KEY.fullmatch(key) else None

    def _write(self, path: str, record: Record) -> None:
        """Make a new file of *record*, or none. It is a session when it has its expiry, which is the last step."""
        check_size(record)
        descriptor = os.open(path, _WRITE, 0o600)
        try:
            try:
                os.fchmod(descriptor, 0o600)  # a umask may have taken even the owner's bits
                _write_all(descriptor, record.data)
            finally:
                os.close(descriptor)  # some file systems report a full disk only here
            os.utime(path, (record.expires, record.expires), follow_symlinks=False)
        except BaseException:  # SystemExit too: that is how a gunicorn worker's timeout arrives
            with suppress(OSError):
                os.unlink(path)
            raise

    def _write_after_all(self, path: str, record: Record, error: OSError) -> None:
        """Do what :meth:`_write` could not, where *error* says how; raise it where not."""
        if isinstance(error, FileExistsError):  # planted, or what an attempt that failed could not take away again
            self._replace(path, record)
        elif error.errno in _FULL:
            self._sweep_slice()
            self._write(path, record)
        else:
            raise error

    def _replace(self, path: str, record: Record) -> None:
        """Put *record* at *path*, or leave what is there as it is."""
        temporary = f"{path}.{os.urandom(8).hex()}{_TEMPORARY}"
        self._write(temporary, record)
        try:
            os.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def _sweep_slice(self) -> int:
        """Look at the next entries of the folder, until four are found that stay, or twenty sessions were over. What is
        gone already, or was left behind, counts for neither.

        Every eighth create does that, and every one after a slice in which something was over. Whoever creates a
        session pays for a few entries, and for a hundred at most.

        :return: how many sessions it has taken away.
        """
        scan = self._scans.get(os.getpid()) or self._begin_scan(os.getpid())
        if not scan.lock.acquire(blocking=False):
            return 0  # another thread is at it
        now, staying, removed = time.time(), 0, 0
        try:
            for _ in range(_LOOKED_AT):
                entry = scan.next_entry() if staying < _STAYING and removed < _REMOVED else None
                if entry is None:
                    break
                outcome = _remove_if_over(entry, now)
                staying += outcome is None
                removed += outcome is True
        except OSError:
            scan.close()  # what was asked for is done; whatever is wrong with the folder shows at the next write
        finally:
            scan.lock.release()
        return removed

    def _begin_scan(self, process: int) -> _Scan:
        """After a fork each side has a scan and a lock of its own: what the parent had open is not the child's."""
        for inherited in [other for other in self._scans if other != process]:
            if scan := self._scans.pop(inherited, None):  # another thread may do the same
                scan.close()
        return self._scans.setdefault(process, _Scan(self.folder))


def _make(folder: str) -> None:
    """Make *folder*, and those above it that are missing, for this user alone."""
    if os.path.isdir(folder):
        return
    _make(os.path.dirname(folder))
    with suppress(FileExistsError):  # another worker was quicker
        os.mkdir(folder, 0o700)
        os.chmod(folder, 0o700)  # a umask may have taken some of the owner's bits


def _prepare(folder: str) -> None:
    try:
        _make(folder)
        status = os.stat(folder)
    except OSError as error:
        raise errors.StoreError(f"the session folder {folder!r} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise errors.ConfigError(f"the session folder {folder!r} is not a folder")
    if status.st_uid != os.geteuid():
        raise errors.ConfigError(
            f"the session folder {folder!r} belongs to another user (uid {status.st_uid}); give it one of its own"
        )
    if status.st_mode & 0o022:
        raise errors.ConfigError(
            f"others can write to the session folder {folder!r}; `chmod 700` it, or give another one"
        )
    with _store_errors:
        if status.st_mode & 0o077 and not os.listdir(folder):
            os.chmod(folder, 0o700)  # made for us; one with other things in it is left as its owner wants it


class _StoreErrors:
    """Turns what the system says into the one error that callers know, without the path, which has a key in it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or type(error).__name__
            raise errors.StoreError(f"the session store failed: {reason}") from error


_store_errors = _StoreErrors()


def _open(path: str) -> int | None:
    try:
        return os.open(path, _READ)
    except OSError as error:
        if error.errno not in _ABSENT or not os.path.isdir(os.path.dirname(path)):
            raise  # with the folder gone, an unmounted disk for one, nobody can say what is unknown
        return None


def _read(descriptor: int, status: os.stat_result) -> bytes | None:
    """Return the contents of a session that is alive; anything that is not one of our files counts as absent."""
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES or status.st_mtime <= time.time():
        return None
    return os.read(descriptor, status.st_size)


def _close(descriptor: int) -> None:
    """Close a session that was read or locked. What was done is done: a fault here must not make it look undone."""
    try:  # noqa: SIM105 - a third of the price
        os.close(descriptor)
    except OSError:
        pass  # the descriptor is closed all the same (close(2))


def _write_all(descriptor: int, data: bytes) -> None:
    """write(2) may take less than it was given, on a disk that is nearly full."""
    while data:
        data = data[os.write(descriptor, data) :]


def _unlink_or_undo(old: str, new: str) -> None:
    """Take *old* away after *new* was written in its stead. When that fails, *new* must go: nobody will hear of it."""
    try:
        os.unlink(old)
    except OSError:  # not SystemExit, which may come when the old one is already gone
        with suppress(OSError):
            os.unlink(new)
        raise


class _Locked:
    """Opens the session at *path* and keeps every other update out; gives its descriptor and its status, or None when
    there is no such session.

    An update puts a new file in the place of the one that is locked here, and wakes us with a lock on a file
    that is no longer the session. So the lock counts only when the path still leads to the file that was
    locked. Its status is then still the one it had before: nothing is changed in place, once it is a session.
    """

    def __init__(self, path: str, timeout: float = _LOCK_TIMEOUT) -> None:
        self._path = path
        self._deadline = time.monotonic() + timeout

    def __enter__(self) -> tuple[int, os.stat_result] | None:
        while True:
            self._descriptor = _open(self._path)
            if self._descriptor is None:
                return None
            try:
                status = os.fstat(self._descriptor)
                if not stat.S_ISREG(status.st_mode):
                    return None  # a folder or a FIFO that somebody put there
                _lock(self._descriptor, self._deadline)
                if os.path.samestat(os.lstat(self._path), status):
                    return self._descriptor, status
            except FileNotFoundError:
                pass  # it was moved or ended meanwhile
            except BaseException:
                self.__exit__()
                raise
            self.__exit__()

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            _close(self._descriptor)


def _lock(descriptor: int, deadline: float) -> None:
    """Try again and again instead of blocking: under gevent the holder may be in this very thread, and a
    stopped process holds for ever.
    """
    pause = 0.0005
    while True:  # as in redis.py, and written here again: a generator of pauses would make a sweep a fortieth slower
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds this session") from None
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _remove_if_over(entry: os.DirEntry[str], now: float) -> bool | None:
    """Remove an expired session, or what a killed writer left behind. Return None when the entry stays, and otherwise
    whether this has removed a session: another worker may have been quicker.
    """
    is_session = entry.name.endswith(_SUFFIX)
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    if is_session and status.st_mtime > now:
        return None  # nearly all, so the rest is for the others
    if not (_OURS.fullmatch(entry.name) and stat.S_ISREG(status.st_mode)):
        return None  # the folder may hold other things, too
    if is_session and not is_unfinished(status):
        return _remove_expired(entry.path)
    # A temporary file may already carry its session's expiry; the change time cannot be set by anyone.
    if status.st_ctime > now - _STALE:
        return None
    with suppress(FileNotFoundError):
        os.unlink(entry.path)
    return False


def is_unfinished(status: os.stat_result) -> bool:
    """Say whether the file of a session may have no expiry yet: nothing was written, or both times are of the write."""
    return status.st_size == 0 or status.st_mtime_ns == status.st_ctime_ns


def _remove_expired(path: str) -> bool | None:
    """Remove the session at *path* unless it was renewed since somebody looked, or is in somebody's hands."""
    try:
        with _Locked(path, timeout=0) as found:
            if found is None:
                return False
            if found[1].st_mtime > time.time():
                return None
            os.unlink(path)
            return True
    except (TimeoutError, PermissionError):  # in somebody's hands, or somebody else's: the rest is still to be swept
        return None
