"""Every page for users, and how a browser gets there: for tests/test_pages_in_browser.py and tools/screenshots.py.

The pages of the application come from servers of this process, because some need faults that nobody can cause from
outside. The pages of the demo come from the command ``wsgi-oauth demo``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from werkzeug import Response

from wsgi_oauth import Config, MemoryStore, RequestHandler, create_app, errors
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve, serve_provider

NAME = "Green Garden Wiki"  # of the application

# -- errors ------------------------------------------------------------------------------------------------------------

_USER = ("https://id.example.com#4711", "grace.hopper@very-long-subdomain.department.example.com")


def _long_description() -> errors.Error:
    error = errors.LoginRefused("the provider answers with invalid_scope")
    error.provider_says = "AADSTS650053: " + "The application asked for the scope User.ReadEverything. " * 5 + "X" * 120
    return error


def _all_errors(base: type[errors.Error]) -> Iterator[type[errors.Error]]:
    yield base
    for subclass in base.__subclasses__():
        yield from _all_errors(subclass)


#: How to create each error, by name. Users see no errors of the configuration, because they stop the start.
ERRORS: dict[str, Callable[[], Exception]] = {
    **{error.__name__: error for error in _all_errors(errors.Error) if not issubclass(error, errors.ConfigError)},
    "NotAllowed": lambda: errors.NotAllowed(*_USER, unread=["groups"], is_page=True),
    "NoUserName": lambda: errors.NoUserName(*_USER, "email"),
    "BadToken": lambda: errors.BadToken("The name has more than 100 characters."),
    "BadHost": lambda: errors.BadHost("the host is unknown", site_url="https://wiki.example.com"),
    "LongDescription": _long_description,
    "Bug": lambda: RuntimeError("a bug in a handler"),
}


class Failure(RequestHandler):
    """Raises an error, also for a POST, because an error of a GET can lead to the sign-in."""

    route = "/failure/<name>"
    skips_access_check = True

    def get(self, request: Any, name: str) -> Response:
        create = ERRORS[name]
        raise create()

    post = get


# -- servers -----------------------------------------------------------------------------------------------------------


@dataclass
class Demo:
    """A running ``wsgi-oauth demo``: the URLs of the application and of the provider, without a slash at the end."""

    url: str
    provider_url: str


@contextmanager
def run_demo(*options: str) -> Iterator[Demo]:
    """Run ``wsgi-oauth demo`` on free ports, and yield when both servers answer."""
    command = [sys.executable, "-m", "wsgi_oauth", "demo", "--port", "0", "--provider-port", "0", *options]
    with subprocess.Popen(  # noqa: S603  # a fixed command
        command, env={**os.environ, "PYTHONUTF8": "1"}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        welcome = ""
        for line in process.stdout or ():
            welcome += line
            if "Ctrl-C" in line:
                break
        urls = dict(re.findall(r"The (\w+) +(http://127\.0\.0\.1:\d+)/", welcome))
        try:
            yield Demo(urls["application"], urls["provider"])
        finally:
            process.terminate()
            process.communicate(timeout=60)


@dataclass
class Servers:
    """The servers of all pages. Each starts with its first use, and stops with *stack*."""

    stack: ExitStack
    _urls: dict[Any, str] = field(default_factory=dict)  # of the applications, by settings

    @cached_property
    def demo(self) -> Demo:
        """The running demo."""
        return self.stack.enter_context(run_demo())

    @cached_property
    def provider(self) -> LocalProvider:
        """The provider of the applications."""
        provider = LocalProvider()
        self.stack.enter_context(serve_provider(provider))
        return provider

    def application(self, **settings: str) -> str:
        """Serve an application with *settings*; return its URL. Equal settings share an application."""
        key = tuple(sorted(settings.items()))
        if key not in self._urls:
            settings = {**self.provider.settings, "NAME": NAME, "SESSION_STORE": "memory:", **settings}
            config = Config.from_environ({f"WSGI_OAUTH_{name}": value for name, value in settings.items()})
            app = create_app(config, store=MemoryStore(), handlers=[Failure])
            self._urls[key] = self.stack.enter_context(serve(app)).url
        return self._urls[key]


@contextmanager
def all_servers() -> Iterator[Servers]:
    """Yield the servers of all pages, and stop them at the end."""
    with ExitStack() as stack:
        yield Servers(stack)


# -- pages -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Visit:
    """A page, and the way of a new browser profile to it.

    :param name: the name of the screenshot.
    :param template: the page's template.
    :param go: opens the page in a Playwright page.
    """

    name: str
    template: str
    go: Callable[[Any, Servers], object]


def sign_in(page: Any, url: str) -> None:
    """Sign in to the application at *url*."""
    page.goto(url)
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{url}/**")


def choose_user(page: Any, demo: Demo, name: str = "Mona Lisa Octocat") -> None:
    """Start a sign-in at the demo, and sign in at its provider, up to the consent page."""
    page.goto(demo.url)
    page.get_by_role("button", name=name).click()
    page.get_by_role("button", name="Allow").wait_for()


def sign_in_at_demo(page: Any, demo: Demo) -> None:
    """Sign in to the demo's application; end at its profile."""
    choose_user(page, demo)
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{demo.url}/profile")


def _choose_fault(page: Any, servers: Servers, *, at_home: bool) -> None:
    """Open the provider's home page or the consent page with a fault, which is cancelled afterwards."""
    url = servers.demo.provider_url
    choose_user(page, servers.demo)
    page.request.post(f"{url}/next-fault", form={"fault": "token.invalid_grant"})
    page.goto(url if at_home else servers.demo.url)
    page.get_by_role("button", name="Cancel the fault").wait_for()
    page.request.post(f"{url}/next-fault")


def _sign_out_at_provider(page: Any, servers: Servers) -> None:
    choose_user(page, servers.demo)
    page.goto(f"{servers.demo.provider_url}/end-session")


def _open(path: str, **settings: str) -> Callable[[Any, Servers], object]:
    return lambda page, servers: page.goto(servers.application(**settings) + path)


def _open_signed_in(path: str, **settings: str) -> Callable[[Any, Servers], object]:
    def go(page: Any, servers: Servers) -> None:
        url = servers.application(**settings)
        sign_in(page, url)
        page.goto(url + path)

    return go


def _choose_provider(page: Any, servers: Servers) -> None:
    settings = dict.fromkeys(servers.provider.settings, "")
    for label, provider in {"STAFF": "google", "STUDENTS": "github", "GUESTS": "gitlab"}.items():
        settings |= {f"{label}_PROVIDER": provider, f"{label}_CLIENT_ID": "id", f"{label}_CLIENT_SECRET": "secret"}
    page.goto(servers.application(PROVIDERS="STAFF STUDENTS GUESTS", **settings))


def _create_token(page: Any, servers: Servers) -> None:
    _open_signed_in("/tokens", TOKENS="yes")(page, servers)
    page.get_by_label("Name").fill("Backup script of the laptop")
    page.get_by_role("button", name="Create").click()
    page.get_by_text("wo_").first.wait_for()


def _list_tokens(page: Any, servers: Servers) -> None:
    _create_token(page, servers)
    page.goto(f"{servers.application(TOKENS='yes')}/tokens")


def _sign_out(page: Any, servers: Servers) -> None:
    _open_signed_in("/logout")(page, servers)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/signed-out")


def _fail(page: Any, servers: Servers, *, error: str) -> None:
    url = servers.application()
    if not page.url.startswith(url):  # the page of another error may stay open, because its origin is the same
        page.goto(f"{url}/signed-out")
    with page.expect_navigation():
        page.evaluate(
            "path => { const form = document.createElement('form'); form.method = 'post'; form.action = path;"
            " document.body.append(form); form.submit() }",
            f"/failure/{error}",
        )


def _open_demo(path: str) -> Callable[[Any, Servers], object]:
    """Open a page below the provider's URL: of the provider, the trace or the lab."""
    return lambda page, servers: page.goto(servers.demo.provider_url + path)


def _trace(page: Any, servers: Servers, *, message: str = "") -> None:
    _open_demo("/trace")(page, servers)
    if page.locator("#empty").is_visible():  # otherwise the page shows the messages of an earlier visit
        sign_in_at_demo(page, servers.demo)
        _open_demo("/trace")(page, servers)
    if message:
        page.locator("summary", has_text=message).first.click()


def _attack(page: Any, servers: Servers, *, guard: str) -> None:
    _open_demo("/lab/login-csrf")(page, servers)
    page.get_by_role("button", name=f"Attack {guard} the guard").click()
    page.wait_for_url("**/lab/login-csrf/*")


def _trace_attack(page: Any, servers: Servers) -> None:
    _attack(page, servers, guard="without")
    page.get_by_role("link", name="messages").click()
    page.locator("ol.diagram summary").first.wait_for()


APPLICATION = [
    Visit("providers", "providers.html", _choose_provider),
    Visit("profile", "profile.html", _open_signed_in("/profile")),
    Visit("tokens-none", "tokens.html", _open_signed_in("/tokens", TOKENS="yes")),
    Visit("tokens-created", "tokens.html", _create_token),
    Visit("tokens", "tokens.html", _list_tokens),
    Visit("sign-out", "sign_out.html", _open_signed_in("/logout")),
    Visit("sign-out-anonymous", "signed_out.html", _open("/logout")),
    Visit("signed-out", "signed_out.html", _sign_out),
    Visit("signed-out-signed-in", "sign_out.html", _open_signed_in("/signed-out")),
    Visit("not-allowed", "not_allowed.html", lambda page, servers: sign_in(page, servers.application(ALLOW="id:1"))),
    Visit("not-found", "error.html", _open("/no-such-page")),
    Visit("callback-without-state", "error.html", _open("/callback?code=x")),
]
FAILURES = [Visit(f"error-{name}", "error.html", partial(_fail, error=name)) for name in ERRORS]
DEMO = [
    Visit("trace-empty", "trace.html", _open_demo("/trace")),
    Visit("trace", "trace.html", _trace),
    Visit("trace-token", "trace.html", partial(_trace, message="POST /token")),
    Visit("trace-session", "trace.html", partial(_trace, message="gives your browser a new session")),
    Visit("trace-attack", "trace.html", _trace_attack),
    Visit("glossary", "glossary.html", _open_demo("/trace/glossary")),
    Visit("lab", "lab.html", _open_demo("/lab")),
    Visit("lab-attack", "attack.html", _open_demo("/lab/mix-up")),
    Visit("lab-with-guard", "attack.html", partial(_attack, guard="with")),
    Visit("lab-without-guard", "attack.html", partial(_attack, guard="without")),
    Visit("lab-error", "problem.html", _open_demo("/lab/unknown")),
    Visit("demo-sign-in", "sign_in.html", lambda page, servers: page.goto(servers.demo.url)),
    Visit("demo-consent", "consent.html", lambda page, servers: choose_user(page, servers.demo)),
    Visit("demo-consent-fault", "consent.html", partial(_choose_fault, at_home=False)),
    Visit("demo-provider", "home.html", _open_demo("/")),
    Visit("demo-provider-fault", "home.html", partial(_choose_fault, at_home=True)),
    Visit("demo-provider-sign-out", "sign_out.html", _sign_out_at_provider),
    Visit("demo-error", "error.html", _open_demo("/authorize")),
]
VISITS = [*APPLICATION, *FAILURES, *DEMO]
