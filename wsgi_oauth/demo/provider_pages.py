"""The HTML pages of the local provider: consent page, home page and error pages.

Each page is self-contained: no scripts, no images and nothing from other hosts. Values are inserted
with :meth:`markupsafe.Markup.format`, which escapes them.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping

from markupsafe import Markup
from werkzeug.wrappers import Response

from .fault_injection import Fault

STYLE = Markup("""
:root {
  color-scheme: light dark;
  --paper: #fff; --ground: #eef1f6; --ink: #1b2330; --soft: #5b6678; --line: #d9dfe8;
  --accent: #2451d6; --on-accent: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #1a2029; --ground: #0f141a; --ink: #e7ecf3; --soft: #9aa7b8; --line: #303a47;
    --accent: #8aa8ff; --on-accent: #0f141a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 6vh 1rem 3rem; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
}
main {
  max-width: 34rem; margin: 0 auto; padding: 2.25rem; background: var(--paper);
  border: 1px solid var(--line); border-radius: 14px; box-shadow: 0 12px 40px #0a142814;
}
h1 { margin: 0 0 1.25rem; font-size: 1.45rem; line-height: 1.3; text-wrap: balance; }
h2 { margin: 2rem 0 .5rem; font-size: 1rem; }
p { margin: .75rem 0; }
.small, footer, dt, summary { color: var(--soft); font-size: .875rem; }
.user { display: flex; gap: .9rem; align-items: center; margin: 0 0 1.25rem; }
.avatar {
  width: 3rem; height: 3rem; border-radius: 50%; background: var(--accent);
  color: var(--on-accent); font-weight: 600; display: grid; place-items: center;
}
.user strong { display: block; }
ul { margin: .5rem 0 0; padding-left: 1.2rem; }
code { font: .85em ui-monospace, "Cascadia Code", Menlo, monospace; overflow-wrap: anywhere; }
.buttons { display: flex; gap: .75rem; margin-top: 1.75rem; }
button {
  flex: 1; padding: .8rem 1rem; font: inherit; font-weight: 600; cursor: pointer;
  color: var(--ink); background: none; border: 1px solid var(--line); border-radius: 9px;
}
button.allow { color: var(--on-accent); background: var(--accent); border-color: var(--accent); }
button:hover { filter: brightness(1.08); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
label { display: block; margin-top: 1.5rem; }
select {
  width: 100%; margin-top: .35rem; padding: .6rem; font: inherit; font-size: .9rem;
  color: inherit; background: var(--paper); border: 1px solid var(--line); border-radius: 9px;
}
details { margin-top: 1.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
summary { cursor: pointer; }
dl { margin: .5rem 0 0; }
dt { margin-top: .6rem; }
dd { margin: 0; overflow-wrap: anywhere; }
footer { max-width: 34rem; margin: 1.25rem auto 0; text-align: center; }
""")

_LAYOUT = Markup("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<main>
{content}
</main>
<footer>A local OAuth 2.0 provider for learning. It runs on this machine, and its users are fictitious.</footer>
</html>
""")

_CONSENT = Markup("""\
<h1><strong>{client}</strong> would like to sign you in</h1>
<div class="user">
  <span class="avatar" aria-hidden="true">{initial}</span>
  <span><strong>{name}</strong><span class="small">signed in at this provider as {login}</span></span>
</div>
<p>If you press Allow, the application can</p>
<ul>{scopes}</ul>
<p class="small">Both buttons send you back to <code>{redirect_uri}</code></p>
<form method="post">
  {users}
  <label class="small">Fault to inject
    <select name="fault">
      <option value="">none</option>
      {faults}
    </select>
  </label>
  <div class="buttons">
    <button name="decision" value="deny">Deny</button>
    <button class="allow" name="decision" value="allow">Allow</button>
  </div>
</form>
<details>
  <summary>Parameters of the authorization request</summary>
  <dl>{parameters}</dl>
</details>
""")

_HOME = Markup("""\
<h1>A local OAuth 2.0 provider</h1>
<p>It has one user, <strong>{name}</strong>, and one client, <code>{client}</code>. Open the
application instead of this page: it redirects you to this provider when you sign in.</p>
<h2>Endpoints</h2>
<dl>{endpoints}</dl>
<h2>Faults</h2>
<p class="small">Choose a fault on the consent page. Programs add one with
<code>POST {url}/faults</code> and the parameters <code>name</code> and, optionally,
<code>times</code>. <code>DELETE</code> removes all.</p>
<dl>{faults}</dl>
""")

_ERROR = Markup("""\
<h1>{title}</h1>
<p>{reason}</p>
<p class="small">The provider does not redirect you back to the application, because it cannot
tell whether the redirect URI is safe (RFC 6749 4.1.2.1).</p>
""")

_USERS = Markup('<label class="small">Sign in as <select name="user">{}</select></label>')
_LOGIN = Markup("<option>{}</option>")
_OPTION = Markup('<option value="{}">{}: {}</option>')
_GROUP = Markup('<optgroup label="{}: {}">{}</optgroup>')
_ITEM = Markup("<li>{}</li>")
_PAIR = Markup("<dt>{}</dt><dd><code>{}</code></dd>")
_LINE = Markup("<dt><code>{}</code></dt><dd>{}</dd>")

SCOPES = {"profile": "read your profile: id, login and name", "email": "read your email address"}

# When the fault of each endpoint takes effect.
WHEN = {
    "authorize": "at once",
    "token": "when the application exchanges the code",
    "refresh": "when the application refreshes the token, in an hour or after a profile fault",
    "profile": "when the application fetches the profile",
    "revoke": "when you sign out",
}

PARAMETERS = {
    "response_type": "the application requests an authorization code (RFC 6749 4.1)",
    "client_id": "identifies the application",
    "redirect_uri": "where the provider sends you afterwards",
    "scope": "the permissions that the application requests",
    "state": "is returned unchanged, so that the application recognizes its own request: against CSRF",
    "code_challenge": "the hash of a secret, the code verifier, which the token request contains: PKCE, RFC 7636",
    "code_challenge_method": "the hash function",
}


def consent_page(
    *,
    client_id: str,
    user: Mapping[str, object],
    scopes: Iterable[str],
    redirect_uri: str,
    parameters: Mapping[str, str],
    logins: Iterable[str],
    faults: Iterable[Fault],
) -> Response:
    """Return the consent page. Its form is submitted to the URL of the page itself."""
    name = str(user["name"])
    content = _CONSENT.format(
        client=client_id,
        name=name,
        initial=name[:1],
        login=user["login"],
        scopes=_join(_ITEM.format(SCOPES.get(scope, scope)) for scope in scopes),
        redirect_uri=redirect_uri,
        users=_USERS.format(_join(_LOGIN.format(login) for login in logins)) if logins else "",
        faults=_options(faults),
        parameters=_join(
            _PAIR.format(f"{key}: {PARAMETERS.get(key, 'unknown to this provider')}", value)
            for key, value in parameters.items()
        ),
    )
    return _page(f"Allow {client_id}?", content)


def home_page(
    *,
    url: str,
    client_id: str,
    user: Mapping[str, object],
    endpoints: Mapping[str, str],
    faults: Iterable[Fault],
) -> Response:
    """Return the page that describes the provider and lists its endpoints and faults."""
    content = _HOME.format(
        url=url,
        client=client_id,
        name=user["name"],
        endpoints=_join(_PAIR.format(name, address) for name, address in endpoints.items()),
        faults=_join(_LINE.format(fault.name, fault.description) for fault in faults),
    )
    return _page("A local OAuth 2.0 provider", content)


def error_page(title: str, reason: str, status: int = 400) -> Response:
    """Return the page for a request that must not be answered with a redirect to the application."""
    return _page(title, _ERROR.format(title=title, reason=reason), status)


def _options(faults: Iterable[Fault]) -> Markup:
    groups: dict[str, list[Markup]] = {}
    for fault in faults:
        name = fault.name.partition(".")[2]
        option = _OPTION.format(fault.name, name, fault.description)
        groups.setdefault(fault.endpoint, []).append(option)
    return _join(_GROUP.format(endpoint, WHEN[endpoint], _join(options)) for endpoint, options in groups.items())


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("\n").join(parts)


_STYLE_HASH = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Cache-Control": "no-store",
    # No form-action, because browsers would apply it to the redirect to the application too.
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # because the URL of the consent page contains the state
    "X-Content-Type-Options": "nosniff",
}


def _page(title: str, content: Markup, status: int = 200) -> Response:
    html = _LAYOUT.format(title=title, style=STYLE, content=content)
    return Response(html, status, HEADERS, content_type="text/html; charset=utf-8")
