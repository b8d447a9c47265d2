"""The default store: one file per session.

A session is the file ``<key>.json``. Its modification time is the expiry of the session, so neither a sweep nor
``ls -l`` has to open it. Each write goes to a temporary file, which is then renamed. A reader therefore finds the old
session or the new one, also after a writer was killed. Updates of a session exclude each other with ``flock`` on its
file. The kernel releases that lock when a process dies.

Writes are not synced to the disk. A killed process loses no data; a power failure can lose some seconds of it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import pwd
import random
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice

from .. import errors
from ..polling import poll
from .store import KEY, MAX_BYTES, Record, StoreErrors, check_size

LOCK_TIMEOUT = 5.0  # seconds to wait for another update, which takes far less than a millisecond
STALE_AFTER = 3600.0  # seconds after which the writer of a temporary file must have died
_SETTLED_AFTER = 2.0  # seconds; longer than a tick of a file system's clock, about a hundredth of a second
_SLICE = 20  # the most entries of the folder that one create checks
_STARTS = 1000  # the number of entries among which _walk chooses its start

_SUFFIX = ".json"
_TEMPORARY = ".tmp"  # a key never ends like this, so a temporary file is never loaded
_GENERATIONS = ".generations"  # contains a folder that is replaced when all versions change
_FILE_NAME = re.compile(r"([0-9a-f]{64})\.json(\.[0-9a-f]{16}\.tmp)?", re.ASCII)

# A symbolic link is not followed, and a FIFO does not block.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

# The errors of open(2) if there is no session file: missing, a link, a socket, a device without a driver, a folder.
_ABSENT = {errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV, errno.ENAMETOOLONG, errno.EISDIR}
_NO_LOCKS = "the file system of the session folder has no locks, so use a local disk, or Redis"
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free disk space, or inodes (df -i)"),
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES),
        "name a writable folder in WSGI_OAUTH_SESSION_STORE (systemd: StateDirectory=; containers: a volume)",
    ),
    errno.EPERM: "use a folder whose file system has permissions (not exFAT, CIFS or a folder of Windows)",
    errno.ENOENT: "mount its disk, or restart this program, which creates the folder, and let nothing clean it up",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (systemd: LimitNOFILE=)"),
    **dict.fromkeys((errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP), _NO_LOCKS),  # errors of flock(2)
}

_log = logging.getLogger(__name__)


class FileStore:
    """Stores sessions as files of mode 0600 in *folder*, which is created with mode 0700 when it is missing.

    :class:`~wsgi_oauth.SessionStore` describes the methods.

    :raises errors.ConfigError: when the folder belongs to another user, or others can write to it.
    :raises errors.StoreError: when it cannot be created.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.path.abspath(os.fspath(folder))
        try:
            create_folder(self.folder)
            check_folder(self.folder)
        except OSError as error:
            raise errors.StoreError(
                f"the session folder {self.folder!r} cannot be created or read: {_reason(error)}"
            ) from error
        self._sweeper = _Sweeper(self.folder)
        self._generation_path = self.folder  # as returned by _find_generation_path

    def load(self, key: str) -> bytes | None:
        path = self._path(key)
        if path is None:
            return None
        with _store_errors:
            descriptor = _open(path)
            if descriptor is None:
                return None
            try:
                return _read(descriptor, os.fstat(descriptor))
            finally:
                with suppress(OSError):  # The descriptor is closed in any case (close(2)).
                    os.close(descriptor)

    def version(self, key: str) -> tuple[bytes, int, int] | None:
        """Return a value that changes with each write of the session and each call of :meth:`change_versions`.

        Return None if the session must be loaded, for example just after a write, because two writes within one tick of
        the file system's clock have the same change time. Programs cannot set a change time.
        """
        generation = self._generation_path
        if generation == self.folder:
            generation = self._generation_path = self._find_generation_path()
        path = os.fsencode(f"{generation}/{key}{_SUFFIX}")  # bytes are faster
        try:
            status = os.lstat(path)
        except (OSError, ValueError):
            self._generation_path = self.folder  # the next call finds it again
            return None
        if generation == self.folder or status.st_ctime > time.time() - _SETTLED_AFTER:
            return None
        return path, status.st_ino, status.st_ctime_ns

    def is_current(self, version: tuple[bytes, int, int]) -> bool:
        """Return whether the session still has this *version*.

        The path contains a folder that :meth:`change_versions` replaces, so one system call detects both changes. This
        saves a quarter of the time of a signed-in request through the gate.
        """
        path, inode, changed = version
        try:
            status = os.lstat(path)
        except OSError:
            return False
        return status.st_ino == inode and status.st_ctime_ns == changed

    def change_versions(self) -> None:
        """Change the version of every session, in all processes."""
        with _store_errors:
            generations = self._find_generations()
            if generations:
                create_folder(self._new_generation())
            for path in generations:  # not renamed, because overlayfs refuses that for folders of a container's image
                with suppress(FileNotFoundError):  # Another process was faster.
                    os.rmdir(path)

    def _find_generation_path(self) -> str:
        """Return a path of the session folder that contains the folder for :meth:`change_versions`.

        If this folder is missing, it is created; if that fails, the result is :attr:`folder`.
        """
        try:
            generations = self._find_generations()
            if not generations and not os.path.islink(f"{self.folder}/{_GENERATIONS}"):
                os.stat(self.folder)  # otherwise the session folder of an unmounted disk would be created, too
                create_folder(self._new_generation())
                generations = self._find_generations()
            return f"{generations[0]}/../.."
        except (OSError, IndexError):
            return self.folder

    def _find_generations(self) -> list[str]:
        """Return the paths of the folders that :meth:`change_versions` replaces.

        Symbolic links are ignored, because an attacker's link could lead out of the session folder.
        """
        generations = f"{self.folder}/{_GENERATIONS}"
        if os.path.islink(generations) or not os.path.isdir(generations):
            return []
        with os.scandir(generations) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]

    def _new_generation(self) -> str:
        return f"{self.folder}/{_GENERATIONS}/{secrets.token_hex(8)}"

    def create(self, key: str, record: Record) -> None:
        path = self._path(key)
        if path is None:
            raise ValueError("a key must be 64 hexadecimal digits")
        self.sweep_slice()
        with _store_errors:
            self._write(path, record)

    def update(self, key: str, change: Callable[[bytes], Record | None], *, move_to: str | None = None) -> bool:
        path = self._path(key)
        target = self._path(move_to) if move_to else path
        if path is None or target is None:
            return False
        with _store_errors, _locked(path, LOCK_TIMEOUT) as found:
            data = None if found is None else _read(*found)
            if data is None:
                return False
            record = change(data)
            if record is not None:
                self._write(target, record)
                if target != path:
                    _unlink_or_undo(path, target)
            return True

    def delete(self, key: str) -> None:
        path = self._path(key)
        if path is None:
            return
        with _store_errors, _locked(path, LOCK_TIMEOUT) as found:
            if found is not None:
                os.unlink(path)

    def keys(self) -> Iterator[str]:
        """Yield the key of each session. See :class:`~wsgi_oauth.SessionStore`.

        On ext4 and XFS, a file that is replaced by a rename keeps its position in the listing. On btrfs and tmpfs it
        gets a new position, so a session that is written during the walk can be missed or yielded twice.
        """
        with _store_errors, os.scandir(self.folder) as entries:
            for entry in entries:
                match = _FILE_NAME.fullmatch(entry.name)
                if match and not match[2]:
                    yield match[1]

    def sweep(self) -> int:
        with _store_errors, os.scandir(self.folder) as entries:
            now, removed = time.time(), 0
            for entry in entries:
                removed += _remove_if_expired(entry, now) and entry.name.endswith(_SUFFIX)
            return removed

    def sweep_slice(self) -> None:
        """Remove a few expired sessions and stale temporary files. Log errors instead of raising them.

        Each create calls this method, which checks up to 20 entries, and stops at the first one that is not removed.
        The more sessions have expired, the more are removed per create. So with one worker the folder has at most about
        twice as many files as live sessions, and with more workers a few times as many.
        """
        try:
            if self._sweeper.pid != os.getpid():  # after a fork; several threads may do this at once
                self._sweeper = _Sweeper(self.folder)
            self._sweeper.sweep_slice()
        except Exception as error:  # noqa: BLE001  # housekeeping must not fail a request
            _log.warning("session folder: sweeping failed (%s); the next create tries again", _reason(error))

    def check(self) -> None:
        key, record = secrets.token_hex(32), Record(b"{}", time.time() + 60)
        self.create(key, record)
        try:
            if not self.update(key, lambda _: record):
                text = "the session store does not find a session that it has just stored"
                remedy = "if its file system does not keep modification times, use a local disk, or Redis"
                raise errors.StoreError(f"{text}; {remedy}")
        finally:
            self.delete(key)

    def _write(self, path: str, record: Record) -> None:
        """Write a session; on a full disk remove some expired sessions and try again."""
        try:
            write_atomically(path, record)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            for _ in range(_SLICE):
                self.sweep_slice()
            write_atomically(path, record)

    def _path(self, key: str) -> str | None:
        return f"{self.folder}/{key}{_SUFFIX}" if KEY.fullmatch(key) else None


def create_folder(folder: str) -> None:
    """Create *folder* and its missing parents with mode 0700, independently of the umask."""
    if os.path.isdir(folder):
        return
    create_folder(os.path.dirname(folder))
    with suppress(FileExistsError):  # Another worker was faster.
        os.mkdir(folder, 0o700)
        os.chmod(folder, 0o700)  # a umask can remove some of the owner's bits


def check_folder(folder: str) -> None:
    """Raise ConfigError unless only this user can write to *folder*. Make it private if it is empty."""
    user = f"the user {user_name(os.geteuid())}"
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            is_empty = next(entries, None) is None
    except PermissionError:
        if os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):  # the failure has passed
            raise
        raise errors.ConfigError(
            f"the session folder {folder!r} cannot be used by {user}; run this program as the owner of the folder, or "
            "put a folder of that user into WSGI_OAUTH_SESSION_STORE"
        ) from None
    if status.st_uid != os.geteuid():
        raise errors.ConfigError(
            f"the session folder {folder!r} belongs to another user ({user_name(status.st_uid)}); run this program as "
            f"the owner of the folder, or put a folder of {user} into WSGI_OAUTH_SESSION_STORE"
        )
    if status.st_mode & 0o022:
        raise errors.ConfigError(
            f"other users can write to the session folder {folder!r} (mode {stat.S_IMODE(status.st_mode):o}); "
            f"use another folder, or run `chmod 700 {folder}` if no other program uses it"
        )
    if is_empty and status.st_mode & 0o077:  # The mode of a folder with contents is its owner's decision.
        os.chmod(folder, 0o700)


def user_name(user_id: int) -> str:
    """Return the name of a user of this machine, or the id of an unknown one."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:  # common in containers
        return str(user_id)


def _reason(error: Exception) -> str:
    """Return the text of *error* without the path of an OSError, because that contains a session's key."""
    text = (isinstance(error, OSError) and error.strerror) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0) if isinstance(error, OSError) else None
    return f"{text}; {remedy}" if remedy else text


_store_errors = StoreErrors((OSError,), _reason)


def _open(path: str, access: int = os.O_RDONLY) -> int | None:
    """Return a descriptor, or None when no session file is there."""
    try:
        return os.open(path, READ_FLAGS | access)
    except OSError as error:
        # If the folder is missing too, for example on an unmounted disk, the store has failed.
        if error.errno not in _ABSENT or not os.path.isdir(os.path.dirname(path)):
            raise
        return None


def _read(descriptor: int, status: os.stat_result) -> bytes | None:
    """Return the contents of a session file, or None when it is expired, too large, or not a regular file."""
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES or status.st_mtime <= time.time():
        return None
    return os.read(descriptor, status.st_size)


def write_atomically(path: str, record: Record) -> None:
    """Store *record* at *path*, or raise SessionTooLarge or OSError, and leave the old file unchanged."""
    check_size(record)
    temporary = f"{path}.{secrets.token_hex(8)}{_TEMPORARY}"
    descriptor = os.open(temporary, WRITE_FLAGS, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)  # a umask can remove even the owner's bits
            data = record.data
            while data:  # write(2) can write a part of the data, for example on an almost full disk
                data = data[os.write(descriptor, data) :]
            os.utime(descriptor, (record.expires, record.expires))
        finally:
            os.close(descriptor)  # Some file systems report a full disk only here.
        os.rename(temporary, path)
    except BaseException:  # including SystemExit, which gunicorn raises in a worker after a timeout
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _unlink_or_undo(old: str, new: str) -> None:
    """Remove *old* after its copy to *new*. If that fails, remove *new*, because its id is not sent to any browser."""
    try:
        os.unlink(old)
    except OSError:  # After SystemExit, the old file may be gone, so the only copy may be *new*.
        with suppress(OSError):
            os.unlink(new)
        raise


@contextmanager
def _locked(path: str, timeout: float) -> Iterator[tuple[int, os.stat_result] | None]:
    """Lock the session at *path* against other updates.

    Yield the descriptor and status of its file, or None when there is no such session.

    :raises TimeoutError: when another process holds the lock for longer than *timeout* seconds.
    """
    for _ in poll(timeout):
        # The file is opened for writing, too: otherwise a network file system such as NFS refuses the lock (flock(2)).
        descriptor = _open(path, os.O_RDWR)
        if descriptor is None:
            yield None
            return
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                yield None
                return
            if _lock(descriptor, path, status):
                yield descriptor, status
                return
        finally:
            with suppress(OSError):  # otherwise a finished update would fail
                os.close(descriptor)
    raise TimeoutError(errno.ETIMEDOUT, "another process holds this session")


def _lock(descriptor: int, path: str, status: os.stat_result) -> bool:
    """Lock an open session file. Return False when another process has locked it, or *path* is another file by now.

    An update replaces the locked file by a rename, so only a lock on the current file is valid.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.lstat(path), status)
    except (BlockingIOError, FileNotFoundError):
        return False


class _Sweeper:
    """Walks through the folder repeatedly, a slice at a time, and removes expired sessions and stale temporary files.

    It belongs to one process. After a fork, the child shares the directory position with its parent, and the lock may
    be held by a thread that the child lacks.
    """

    def __init__(self, folder: str) -> None:
        self.pid = os.getpid()
        self._folder = folder
        self._lock = threading.Lock()
        self._entries: Iterator[os.DirEntry[str]] = iter(())

    def sweep_slice(self) -> None:
        if not self._lock.acquire(blocking=False):
            return  # Another thread is sweeping.
        try:
            now = time.time()
            for _ in range(_SLICE):
                entry = next(self._entries, None)
                if entry is None:  # the end of a walk
                    self._entries = _walk(self._folder)
                    entry = next(self._entries, None)
                if entry is None or not _remove_if_expired(entry, now):
                    break
        finally:
            self._lock.release()


def _walk(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield each entry of *folder* once, starting at a random one of the first thousand.

    Otherwise short-lived workers would all check the same entries.
    """
    with os.scandir(folder) as entries:
        first = list(islice(entries, _STARTS))
        start = random.randrange(len(first) or 1)  # noqa: S311  # not a secret
        yield from first[start:]
        yield from entries
        yield from first[:start]


def _remove_if_expired(entry: os.DirEntry[str], now: float) -> bool:
    """Remove an expired session or a stale temporary file. Return whether *entry* was removed, also by another worker.

    A session that another process has locked, or a file of another user, is skipped.
    """
    try:
        status = entry.stat(follow_symlinks=False)
        if status.st_mtime > now and entry.name.endswith(_SUFFIX):
            return False  # checked first, because almost all entries are live sessions
        if not (_FILE_NAME.fullmatch(entry.name) and stat.S_ISREG(status.st_mode)):
            return False  # another kind of file
        if entry.name.endswith(_TEMPORARY):
            # The modification time may already be the session's expiry, so the change time is compared.
            is_stale = status.st_ctime < now - STALE_AFTER
            if is_stale:
                os.unlink(entry.path)
            return is_stale
        with _locked(entry.path, timeout=0) as found:
            # Checked again under the lock, because another worker may have removed or stored the session meanwhile.
            if found is not None and found[1].st_mtime <= now:
                os.unlink(entry.path)
                return True
    except FileNotFoundError:  # Another worker was faster.
        return True
    except (TimeoutError, PermissionError):
        pass
    return False
