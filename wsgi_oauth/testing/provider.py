"""Run the local provider during a test."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ..config import PREFIX
from ..config.settings import known_variables
from ..demo.local_provider import LocalProvider
from ..demo.server import serve_provider
from ..demo.users import OCTOCAT


@contextmanager
def local_provider(public_url: str = "", *, groups: Collection[str] = ()) -> Iterator[dict[str, str]]:
    """Run the local provider on a free port of this machine; yield the ``WSGI_OAUTH_*`` variables that use it.

    Pass the variables to ``Config.from_environ``. For an application that calls ``get_app``, use
    ``mock.patch.dict(os.environ, ...)``, or start a process with them. All other settings get an empty value, so the
    environment of the test cannot change the result. Sessions are kept in memory. The provider's user is Mona Lisa
    Octocat, with the username ``octocat``.

    :param public_url: the value of ``WSGI_OAUTH_PUBLIC_URL``, to test an application under its real host name.
    :param groups: the groups of the user, for access rules such as ``group:admins``.
    """
    provider = LocalProvider(
        redirect_uris=[f"{public_url.rstrip('/')}/callback"] if public_url else (),
        user={**OCTOCAT, "groups": list(groups)},
    )
    with serve_provider(provider):
        unset = dict.fromkeys(known_variables(), "")
        settings = {
            **provider.plain_settings,
            "GROUPS_CLAIM": "groups",
            "PUBLIC_URL": public_url,
            "SESSION_STORE": "memory:",
        }
        yield unset | {PREFIX + name: value for name, value in settings.items()}
