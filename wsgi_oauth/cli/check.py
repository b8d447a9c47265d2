"""``wsgi-oauth check``: check the configuration before users sign in.

The command creates the application from the environment and sends a harmless request to each endpoint of each
provider, in the same way as the application does. It prints no secrets.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from .. import errors
from ..app import create_app, open_store
from ..config import Config
from ..config.settings import PREFIX, THREADS, did_you_mean
from ..sessions.file import user_name
from ..sessions.memory import MemoryStore
from ..sessions.redis import RedisStore
from ..transport.adapter import find_ca_bundle
from ..web.page_templates import BUILT_IN, PageTemplates, describe_failure
from ..web.sample_pages import render_samples
from ..web.site import Site
from .finding import Finding, fail, locate_document, ok, warn
from .provider_check import DEFAULT_PORT, ProviderCheck
from .public_check import PublicCheck


def add_command(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check the settings in the environment, the session store, and each endpoint of the provider. Print a line for "
        "each finding, with the remedy below it. Exit with 0 if the application would work, and with 1 if not."
    )
    parser.add_argument(
        "--public",
        action="store_true",
        help="also request the running application at WSGI_OAUTH_PUBLIC_URL, and check the proxies in front of it",
    )
    parser.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    levels, label = set(), ""
    for finding in findings(os.environ, public=options.public):
        if finding.label != label:
            print()
        label = finding.label
        print(finding, flush=True)  # at once, because the next request may be slow
        levels.add(finding.level)
    if "FAIL" in levels:
        print("\nThe application would not work: fix the lines marked FAIL.")
        return 1
    print("\nThe application would work" + ("; look at the lines marked warn." if "warn" in levels else "."))
    return 0


def findings(environ: Mapping[str, str], *, public: bool = False) -> Iterator[Finding]:
    """Check the configuration in *environ*; with *public*, also the running application at its public URL."""
    try:
        config = Config.from_environ(environ)
        find_ca_bundle()
        # Creating the application checks the other settings. The session store is checked below.
        app = create_app(config, store=MemoryStore())
        oauth = app.oauth
        oauth.transport.load()
    except errors.ConfigError as error:
        yield from map(fail, str(error).splitlines())
        return
    stored = _check_store(config)
    yield stored
    if config.session_seal:
        yield ok("session encryption: on; only the user's cookie can decrypt a session in the store")
    else:
        text = "session encryption: off; the tokens in the session store are readable"
        yield ok(text, "set WSGI_OAUTH_SESSION_SEAL=yes to encrypt sessions")
    if config.upstream_limit >= THREADS:
        text = f"upstream limit: a provider that hangs can block all {THREADS} threads of wsgi_oauth.gunicorn_conf"
        yield warn(text, "set WSGI_OAUTH_UPSTREAM_LIMIT below gunicorn's --threads")
    if config.allow:
        yield ok(f"access: users who match one of: {shlex.join(config.allow)}")
    else:
        yield ok("access: all users who can sign in", "set WSGI_OAUTH_ALLOW to restrict access")
    if config.bearer_audience:
        verified = [each.configured_provider.issuer for each in oauth.registrations.values() if each.has_published_keys]
        issuers = " and ".join(map(str, verified))
        yield ok(f"access tokens: those of {issuers} for the audience {config.bearer_audience!a}")
    if config.insecure_http_hosts:
        hosts = ", ".join(config.insecure_http_hosts)
        text = f"plain http: accepted for {hosts}; attackers in that network can read and change tokens and cookies"
        yield warn(text, "use https, and unset WSGI_OAUTH_INSECURE_HTTP_HOSTS")
    yield from _check_templates(app.templates)
    yield from _describe_sites(app.site)
    for provider, registration in zip(config.providers, oauth.registrations.values(), strict=True):
        port = environ.get("PORT") or DEFAULT_PORT  # the port in gunicorn_conf.py
        check = ProviderCheck(provider, registration, config.public_url, port)
        for finding in check.findings():
            yield replace(finding, label=provider.label, remedy=provider.with_own_variables(finding.remedy))
    if public and stored.level != "FAIL":
        yield from PublicCheck(config, app, open_store(config)).findings()


def _check_templates(templates: PageTemplates) -> Iterator[Finding]:
    """Check who can write the operator's templates, and render each page once with them."""
    if not templates.folder:
        return
    known = {path.name for path in BUILT_IN.iterdir()}
    folder = Path(templates.folder)
    files = sorted(path.name for path in folder.iterdir())
    paths = [folder, *sorted(folder.rglob("*"))]
    if writable := [path for path in paths if path.exists() and path.stat().st_mode & 0o022]:
        text = f"WSGI_OAUTH_TEMPLATES: other users of this machine can write to {', '.join(map(str, writable))}"
        remedy = f"run chmod -R go-w {templates.folder}, because templates can execute any code as the application"
        yield warn(text, remedy)
    failures: dict[str, list[str]] = {}  # the pages by the failure, because one file can be a part of several pages
    for name, page in render_samples(templates).items():
        if isinstance(page, Exception):
            failures.setdefault(describe_failure(page), []).append(name)
    failing = {name for failure, pages in failures.items() for name in (failure.partition(":")[0], *pages)}
    own = [name for name in files if name in known - failing]
    if own or not failures:
        names = ", ".join(own) or "none"
        yield ok(f"templates: {names} of {templates.folder} in place of the built-in ones")
    for name in sorted(set(files) - known):
        if remedy := did_you_mean(name, known):
            yield warn(f"templates: {name} replaces no built-in template", remedy)
    for failure, pages in failures.items():
        text = f"templates: {', '.join(pages)} cannot be rendered, so users see the built-in page: {failure}"
        yield warn(text, f"correct the file; {locate_document('pages.md')} lists the variables of each page")


def _describe_sites(site: Site) -> Iterator[Finding]:
    """Describe the task of each further site's proxy."""
    for host, url in site.further_urls.items():
        if urlsplit(url).path:
            text = f"site {host}: shares the sign-in of {site.public_url}"
            yield ok(text, f"let its proxy send {url}/ to this application, with the Host header {host}")
        else:
            text = f"site {host}: its URL has no path, so this application has to answer all paths of that host"
            yield warn(text, f"append the path that its proxy sends to this application, for example {url}/auth")


def _check_store(config: Config) -> Finding:
    """Store a session and delete it."""
    name = f"session store {config.store_name}"
    kind, _, folder = config.session_store.partition(":")
    try:
        if kind == "file":
            _check_owner(folder)
        store = open_store(config)
        store.check()
        warning = next(store.warnings(), None) if isinstance(store, RedisStore) else None
    except errors.Error as error:
        detail = error.detail.removeprefix(f"{PREFIX}SESSION_STORE={config.store_name}: ")
        problem, _, remedy = detail.partition("; ")
        if isinstance(error, errors.StoreError) and not remedy:
            remedy = "correct the permissions, or free disk space, or set WSGI_OAUTH_SESSION_STORE to another folder"
            if kind != "file":
                remedy = (
                    "check the address, the password, the firewall, and whether the server is running; write rediss:// "
                    "for TLS, otherwise redis://; add ?ssl_certfile= if the server requires a certificate of clients"
                )
        return fail(f"{name}: {problem}", remedy)
    if warning:
        return warn(f"{name}: {warning[0]}", warning[1])
    if isinstance(store, MemoryStore):
        remedy = "start gunicorn with one worker, or set WSGI_OAUTH_SESSION_STORE=file:/some/folder"
        return warn(f"{name} works for one process only, and all sessions end with that process", remedy)
    return ok(f"{name}: a session can be stored")


def _check_owner(folder: str) -> None:
    """Refuse to create *folder* as root in another user's folder, because that user could not use it."""
    parent = os.path.dirname(folder)
    if os.geteuid() != 0 or os.path.exists(folder) or not os.path.isdir(parent):
        return
    if owner := os.stat(parent).st_uid:
        user = f"the user {user_name(owner)}"
        raise errors.ConfigError(
            f"missing, and root would create it in a folder of {user}, who could not use it; run this command as {user}"
        )
