"""A secret in a file. The file is read again when it has changed."""

from __future__ import annotations

import logging
import os
import stat

from . import checks

_LONGEST_SECRET = 4096  # characters
_log = logging.getLogger(__name__)


def read_secret(path: str, *, longest: int = _LONGEST_SECRET) -> str:
    """Return the secret in the file *path*, without surrounding whitespace. Raise ValueError with the problem."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # some editors begin a file with a byte order mark
            secret = file.read(longest + 1).strip()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if not secret:
        raise ValueError("is empty")
    if secret[0] == secret[-1] and secret[0] in "\"'":
        raise ValueError("has quotes around the secret, which would be a part of it, so remove them")
    if len(secret) > longest:
        raise ValueError("is too large for a secret")
    return secret


class SecretFile:
    """The current secret in a file, for programs that rotate secrets: Kubernetes, Vault, systemd credentials.

    All requests of a process share it.
    """

    def __init__(self, path: str, secret: str, setting: str) -> None:
        self._path = path
        self._secret = secret  # the latest one that was readable
        self._setting = setting  # the name of the environment variable, for the log
        self._version: object = None  # the version of the file when it was last read

    def read(self) -> str:
        """Return the secret. While the file is missing, empty or unreadable, the previous one is returned.

        The file is read only if its inode, size or times have changed. A replaced symbolic link changes them, too.
        """
        version: object
        try:
            status = os.stat(self._path)
            version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if not stat.S_ISREG(status.st_mode):  # a pipe can be read once, at the start
                return self._secret
        except OSError as error:
            version = error.errno
        if version != self._version:
            # The version is set first, so that a later change is detected. Other threads use the previous secret.
            self._version = version
            try:
                secret = checks.check_client_secret(read_secret(self._path))
            except ValueError as problem:
                text = "%s: the file %s (got %a); the previous secret is used until the file is readable"
                _log.warning(text, self._setting, problem, self._path)
            else:
                if secret != self._secret:
                    self._secret = secret
                    _log.info("%s: a new secret was read", self._setting)
        return self._secret
