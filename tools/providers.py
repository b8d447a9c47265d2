"""Generate docs/providers.md from the presets and from providers_template.md.

::

    python tools/providers.py            # print the document
    python tools/providers.py --write    # write docs/providers.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from wsgi_oauth import Provider
from wsgi_oauth.oauth.presets import PRESETS

DOCUMENT = Path(__file__).parents[1] / "docs" / "providers.md"
TEMPLATE = Path(__file__).parent / "providers_template.md"

TABLE = """\
| `WSGI_OAUTH_PROVIDER` | provider | also required | email | username | groups |
|---|---|---|---|---|---|
"""

UNTRIED = "Not tried at the live service."


def page() -> str:
    """Return the document."""
    presets = sorted(PRESETS.values(), key=lambda preset: preset.title.lower())
    rows = "".join(f"| {' | '.join(_row(preset))} |\n" for preset in presets)
    sections = "\n".join("\n".join(_section(preset)) + "\n" for preset in presets)
    return TEMPLATE.read_text().replace("<!-- table -->\n", TABLE + rows).replace("<!-- providers -->\n", sections)


def _row(preset: Provider) -> Iterator[str]:
    yield f"[`{preset.name}`](#{preset.name})"
    yield preset.title
    yield "`WSGI_OAUTH_ISSUER`" if preset.issuer_example else ""
    yield "verified" if preset.verifies_emails else "not verified" if preset.user.email else "none"
    yield "unique" if preset.username_is_unique else "not unique" if preset.user.username else "none"
    yield "yes" if preset.user.groups or preset.groups else "none"


def _section(preset: Provider) -> Iterator[str]:
    yield f'<a id="{preset.name}"></a>'
    yield f"### {preset.title}"
    yield ""
    yield f"Register: {_register(preset)} · [documentation]({preset.documentation_url})"
    yield ""
    yield "```sh"
    yield f"export WSGI_OAUTH_PROVIDER={preset.name}"
    if preset.issuer_example:
        yield f"export WSGI_OAUTH_ISSUER={preset.issuer_example}   # replace with yours"
    yield "```"
    yield ""
    if preset.scope:
        yield f"- Scopes: `{preset.scope.replace('{client_id}', '<client id>')}`."
    yield f"- Groups: {_groups(preset)}."
    yield f"- Verified addresses: {_addresses(preset)}."
    yield from (f"- {note}" for note in preset.notes)
    yield f"- {preset.tried or UNTRIED}"


def _groups(preset: Provider) -> str:
    members = [f"`{path}`" for path in preset.user.groups.split()]
    lists = [f"a list{_with_scope(each.scope)}" for each in preset.groups]
    return " and ".join(dict.fromkeys([*members, *lists])) or "none"


def _addresses(preset: Provider) -> str:
    if preset.emails:
        return f"from a list{_with_scope(preset.emails.scope)}"
    if not preset.user.email:
        return "no, because the provider gives no addresses"
    return f"if `{preset.user.email_verified}` is true" if preset.user.email_verified else "no"


def _with_scope(scope: str) -> str:
    return f" (scope `{scope}`)" if scope else ""


def _register(preset: Provider) -> str:
    url = preset.registration_url
    if "{issuer}" not in url:
        return f"<{url}>"
    path = url.removeprefix("{issuer}")
    return f"on your own server, at `{path}`" if path else "on your own server, as an administrator"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(page())
    else:
        print(page(), end="")
