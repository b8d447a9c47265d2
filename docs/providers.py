"""Write docs/providers.md from the catalogue: ``python -m docs.providers > docs/providers.md``."""

from __future__ import annotations

from collections.abc import Iterator

from wsgi_oauth.catalogue import CATALOGUE
from wsgi_oauth.providers import Provider

HEAD = """\
# Providers

<!-- Made from wsgi_oauth/catalogue.py by `python -m docs.providers`. Change the entry there. -->

`WSGI_OAUTH_PROVIDER` takes each of these names. With every one of them you

1. **register** the application with the provider, with the redirect URI (*callback URL*)
   `https://your.host/callback`, or `http://127.0.0.1:8000/callback` on your own machine, a mount prefix before
   `/callback` included;
2. **set** `WSGI_OAUTH_PROVIDER`, `WSGI_OAUTH_CLIENT_ID`, `WSGI_OAUTH_CLIENT_SECRET`, `WSGI_OAUTH_PUBLIC_URL`, and
   `WSGI_OAUTH_ISSUER` where every customer has an installation or a tenant of their own;
3. **ask** `wsgi-oauth check` whether that works.

Any other OAuth 2 provider is described by `WSGI_OAUTH_AUTHORIZATION_URL`, `WSGI_OAUTH_TOKEN_URL` and
`WSGI_OAUTH_PROFILE_URL`. An entry that was not tried against the live service says so; it is written from the
documentation that [the catalogue](../wsgi_oauth/catalogue.py) names beside it.
"""

TABLE = """\
*Address*: whether the provider says that an email address is verified. *User name*: whether it is one user's alone,
so that a rule may go by it. *Groups*: what there is of organisations, teams and groups.

| `WSGI_OAUTH_PROVIDER` | provider | also set | asks for | address | user name | groups |
|---|---|---|---|---|---|---|
"""

UNTRIED = "Not tried against the live service."


def page() -> str:
    """Return the whole page."""
    entries = sorted(CATALOGUE.values(), key=lambda entry: entry.title.lower())
    rows = "".join(f"| {' | '.join(_row(entry))} |\n" for entry in entries)
    sections = "\n".join("\n".join(_section(entry)) + "\n" for entry in entries)
    return f"{HEAD}\n{TABLE}{rows}\n{sections}"


def _row(entry: Provider) -> Iterator[str]:
    yield f"[`{entry.name}`](#{entry.name})"
    yield entry.title
    yield "`WSGI_OAUTH_ISSUER`" if entry.issuer_example else ""
    yield f"`{entry.scope}`" if entry.scope else "nothing in particular"
    yield _address(entry)
    yield "unique" if entry.username_is_unique else "not unique" if entry.user.username else "none"
    yield _groups(entry)


def _address(entry: Provider) -> str:
    if entry.user.email_verified:
        return "says so"
    return f"says so, with the scope `{entry.emails_scope}`" if entry.emails_url else "never verified"


def _groups(entry: Provider) -> str:
    if entry.user.groups:
        return "in the profile"
    return f"with the scope `{entry.groups_scope}`" if entry.groups_url else "none"


def _section(entry: Provider) -> Iterator[str]:
    yield f'<a id="{entry.name}"></a>'
    yield f"## {entry.title}"
    yield ""
    yield f"Register: {_register(entry)}"
    yield ""
    yield "```sh"
    yield f"export WSGI_OAUTH_PROVIDER={entry.name}"
    if entry.issuer_example:
        yield f"export WSGI_OAUTH_ISSUER={entry.issuer_example}   # yours"
    yield "```"
    yield ""
    yield from (f"- {note}" for note in entry.notes)
    yield f"- {entry.tried or UNTRIED}"


def _register(entry: Provider) -> str:
    url = entry.registration_url
    if "{issuer}" not in url:
        return f"<{url}>"
    path = url.removeprefix("{issuer}")
    return f"on your own server, at `{path}`" if path else "on your own server, as an administrator"


if __name__ == "__main__":
    print(page(), end="")
