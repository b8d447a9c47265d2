"""Write docs/providers.md from the catalogue: ``python -m docs.providers > docs/providers.md``."""

from __future__ import annotations

from collections.abc import Iterator

from wsgi_oauth.oauth.presets import CATALOGUE
from wsgi_oauth.oauth.provider import Provider

HEAD = """\
# Providers

<!-- Made from wsgi_oauth/oauth/presets.py by `python -m docs.providers`. Change the entry there. -->

`WSGI_OAUTH_PROVIDER` takes each of these names. With every one of them you

1. **register** the application with the provider, with the redirect URI (*callback URL*)
   `https://your.host/callback`, or `http://127.0.0.1:8000/callback` on your own machine, a mount prefix before
   `/callback` included;
2. **set** `WSGI_OAUTH_PROVIDER`, `WSGI_OAUTH_CLIENT_ID`, `WSGI_OAUTH_CLIENT_SECRET`, `WSGI_OAUTH_PUBLIC_URL`, and
   `WSGI_OAUTH_ISSUER` where every customer has an installation or a tenant of their own;
3. **ask** `wsgi-oauth check` whether that works.

An OpenID Connect issuer that has no name here is [known by its URL](#issuer). Any other OAuth 2 provider is described
by `WSGI_OAUTH_AUTHORIZATION_URL`, `WSGI_OAUTH_TOKEN_URL` and `WSGI_OAUTH_PROFILE_URL`. What the last one answers must
be a JSON object with the user's id under `sub` or `id`; `preferred_username`, `login` or `username`, `name`, `email`
and `email_verified` are read where they are there. `WSGI_OAUTH_ALLOW` then takes `id:` and `email:`, because nobody
knows whether a username stays one user's own.

An entry that was not tried against the live service says so; it is written from the documentation that
[the catalogue](../wsgi_oauth/oauth/presets.py) names beside it.
"""

ISSUER = """\
<a id="issuer"></a>
## Any OpenID Connect issuer

Register: a confidential client with the authorization code flow, with your provider.

```sh
export WSGI_OAUTH_PROVIDER=https://id.example.com/realm   # as its own document says it, a slash at the end included
```

- All else is in the document at `https://id.example.com/realm/.well-known/openid-configuration`; what you set yourself
  wins.
- Asked for are `openid profile email` and `offline_access`, as far as the document lists them. When the provider
  answers `invalid_scope`, it does not let your client have all of that: say in `WSGI_OAUTH_SCOPE` what it may ask for.
- Refresh tokens come by themselves, or with `offline_access`. For that scope the user is asked for consent at each
  sign-in, as the specification wants it; leave it out of `WSGI_OAUTH_SCOPE` when you would rather do without.
- Groups are read from the claim `groups`; some providers want a scope of that name.
- `client_refused` in the log, and the secret is right: the client may be registered for another way to authenticate
  (`WSGI_OAUTH_CLIENT_AUTH=post`), or the provider takes id and secret as they are (`basic-raw`), which makes a
  difference for secrets with characters like `+`, `/` or `%`.
- Without a secret, as a public client: `WSGI_OAUTH_CLIENT_AUTH=none`.
- A document need not say where tokens are revoked, and Django OAuth Toolkit's does not: `WSGI_OAUTH_REVOCATION_URL`
  does.
- `WSGI_OAUTH_END_SESSION=yes` signs people out there, too.
- Tried against oidc-provider-mock, Authlib's authorization server and Django OAuth Toolkit.
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
    return f"{HEAD}\n{TABLE}{rows}\n{ISSUER}\n{sections}"


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
