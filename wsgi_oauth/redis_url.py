"""The URL of a Redis deployment: one server, servers that Sentinels watch, or a cluster."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

_URL = (
    r"(?P<scheme>rediss?)(\+(?P<kind>sentinel|cluster))?://"
    r"((?P<credentials>[^/?#]*)@)?(?P<hosts>[^/?#@]+)(?P<path>/[^?#]*)?(\?(?P<query>[^#]*))?"
)
_HOST = r"(?P<host>[^\s:\[\]]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?"
_FORMS = {
    "server": "redis://host:port/db, with user:password@ before the host if needed",
    "sentinel": "redis+sentinel://host:port,host:port/service/db, with user:password@ before the first host if needed",
    "cluster": "redis+cluster://host:port,host:port, with user:password@ before the first host if needed",
}
_DEFAULT_PORTS = {"server": 6379, "sentinel": 26379, "cluster": 6379}

# Parameters with the path of a file in PEM format: certificate authorities in addition to those of the system, the
# certificate of this client, and its key, if it is not in the same file.
_TLS_FILES = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}

SCHEMES = tuple(f"{scheme}{kind}" for scheme in ("redis", "rediss") for kind in ("", "+sentinel", "+cluster"))


class RedisURL(NamedTuple):
    """The parts of a URL. *kind* is ``server``, ``sentinel`` or ``cluster``."""

    kind: str
    tls: bool
    hosts: tuple[tuple[str, int], ...]  # addresses of the server, the Sentinels, or some servers of the cluster
    user: str
    password: str
    service: str  # the Sentinels' name for the master
    database: int
    tls_files: dict[str, str]

    @classmethod
    def parse(cls, url: str) -> RedisURL:
        """Read *url*. Raise ValueError with ``<problem>`` or ``<problem>; <remedy>``."""
        kind = re.split(r"[+:]", url)[1] if re.match(r"rediss?\+(sentinel|cluster):", url) else "server"
        remedy = "percent-encode special characters of the password"
        if "?" in url:
            remedy += " (? is %3F), and remove all parameters except ssl_ca_certs, ssl_certfile and ssl_keyfile"
        invalid = ValueError(f"must be {_FORMS[kind]}; {remedy}")
        match = re.fullmatch(_URL, url)
        if not match:
            raise invalid
        tls = match["scheme"] == "rediss"
        tls_files = _read_query(match["query"] or "", tls, invalid)
        hosts = [re.fullmatch(_HOST, each) for each in match["hosts"].split(",")]
        path = re.fullmatch(
            {
                "server": "/?(?P<service>)(?P<database>[0-9]{0,9})",
                "sentinel": "/(?P<service>[A-Za-z0-9._-]+)(/(?P<database>[0-9]{0,9}))?",
                "cluster": "/?(?P<service>)(?P<database>0?)",
            }[kind],
            match["path"] or "",
        )
        if not path or (kind == "server" and len(hosts) > 1):
            raise invalid
        addresses = []
        for each in hosts:
            port = int(each["port"] or _DEFAULT_PORTS[kind]) if each else 0
            if not each or not 0 < port < 65536:
                raise invalid
            addresses.append((each["host"].strip("[]").lower(), port))
        user, _, password = (match["credentials"] or "").partition(":")
        user, password, database = unquote(user), unquote(password), int(path["database"] or 0)
        return cls(kind, tls, tuple(addresses), user, password, path["service"], database, tls_files)


def _read_query(query: str, tls: bool, invalid: ValueError) -> dict[str, str]:
    """Return the paths of files. ``ssl_cert_reqs``, which other programs use, may only be ``required``."""
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    if not parameters.keys() <= {"ssl_cert_reqs", *_TLS_FILES} or (query and not parameters):
        raise invalid
    if parameters and not tls:
        raise ValueError(f"{', '.join(parameters)} has no effect without TLS; write rediss instead of redis")
    required = parameters.pop("ssl_cert_reqs", "required")
    if required.lower().removeprefix("cert_") != "required":
        raise ValueError(
            "ssl_cert_reqs must be required, because otherwise anyone on the network could read the sessions; "
            "remove ssl_cert_reqs, and for a private certificate authority add ?ssl_ca_certs=/path/of/its/certificate"
        )
    for name, path in parameters.items():
        if not path.startswith("/"):
            raise ValueError(f"{name} must be the absolute path of a file in PEM format")
    if "ssl_keyfile" in parameters and "ssl_certfile" not in parameters:
        raise ValueError("ssl_keyfile needs ssl_certfile, the certificate for this key")
    return parameters
