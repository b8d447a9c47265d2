"""The command line: ``wsgi-oauth demo`` shows the dance, ``wsgi-oauth check`` looks at a set-up, and
``wsgi-oauth sessions`` is in ``housekeeping``.

The demo is imported by its own command alone: an application in production has nothing of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl

from requests import Response

from . import __version__, errors, housekeeping
from .app import open_store
from .catalogue import provider_from_config
from .client import OAuth2Session
from .config import THREADS, Config
from .providers import Provider
from .sessions.redis import RedisStore
from .transport import Transport, ca_bundle


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* (by default those of the process) name.

    Returns the exit status; a usage error raises SystemExit(2), as argparse does.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        status = command(options)
        sys.stdout.flush()  # here, where a reader who is gone is no surprise
        return status
    except BrokenPipeError:  # somebody reads only the beginning: wsgi-oauth demo --walk | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130  # what shells report for SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsgi-oauth",
        description="The OAuth 2 web application flow as a plain WSGI application.",
    )
    parser.add_argument("--version", action="version", version=f"wsgi-oauth {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="try it, offline, with a local provider",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_demo(demo)
    _add_check(commands.add_parser("check", help="look whether the configuration would work"))
    housekeeping.add_commands(commands.add_parser("sessions", help="count, list, sweep or end sessions"))
    return parser


# -- wsgi-oauth demo -------------------------------------------------------------------------


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a local provider, and the application under gunicorn, both on loopback. Open the "
        "URL that is printed, or let --walk sign in by itself. Ctrl-C stops both."
    )
    option = parser.add_argument
    option("--port", type=_port, default=8000, help="the application's; 0 picks a free one")
    option("--provider-port", type=_port, default=8001, help="the provider's")
    option("--walk", action="store_true", help="sign in, print every HTTP message of it, and exit")
    option("--workers", type=_positive, default=2, metavar="N", help="gunicorn's processes")
    option("--worker-class", default="gthread", metavar="CLASS", help="gunicorn's kind of worker")
    parser.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> int:
    from .demo.command import Options, run

    return run(
        Options(
            port=options.port,
            provider_port=options.provider_port,
            workers=options.workers,
            worker_class=options.worker_class,
            walk=options.walk,
        )
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes: 1 or more")
    return int(text)


# -- wsgi-oauth check ------------------------------------------------------------------------

SKEW = 60  # seconds that two clocks may differ before anybody has to know
MADE_UP = "made-up-by-wsgi-oauth-check-nobody-holds-it"  # for a code, a state, a verifier

UNREACHABLE = (
    "this machine must be able to connect to it: look at the name, the firewall and HTTPS_PROXY; "
    "REQUESTS_CA_BUNDLE names a CA of your own"
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``ok``, ``warn`` or ``FAIL``, and what to do about it."""

    level: str
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level:<5} {self.what}" + (f"\n      -> {self.advice}" if self.advice else "")


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read the configuration from the environment, try the session store, and ask the provider. "
        "Prints a line for each finding. Exits 0 when the application would work, 1 when not."
    )
    parser.set_defaults(command=_check)


def _check(_: argparse.Namespace) -> int:
    failures = 0
    for finding in findings(os.environ):
        print(finding, flush=True)  # at once: a provider that does not answer takes its time
        failures += finding.level == "FAIL"
    if failures:
        print("\nThe application would not work: fix the lines marked FAIL.")
        return 1
    print("\nThe application would work.")
    return 0


def findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """All there is to say about the configuration in *environ*; never a secret."""
    try:
        config = Config.from_environ(environ)
        provider = provider_from_config(config)
        ca_bundle()
    except errors.ConfigError as error:
        yield from (Finding("FAIL", line) for line in str(error).splitlines())
        return
    yield Finding("ok", f"provider {provider.title}, client id {config.client_id}")
    yield _look_at_redirect_uri(config)
    yield _try_store(config)
    yield _look_at_limit(config)
    yield from Questions(config, provider)


def _look_at_redirect_uri(config: Config) -> Finding:
    uri = _redirect_uri(config)
    if config.public_url:
        return Finding("ok", f"redirect URI, to be registered exactly like this: {uri}")
    return Finding(
        "warn",
        f"redirect URI, for use on this machine alone: {uri}",
        "to be reached from elsewhere, set WSGI_OAUTH_PUBLIC_URL to the https URL people will open",
    )


def _redirect_uri(config: Config) -> str:
    return f"{config.public_url or 'http://127.0.0.1:8000'}/callback"  # gunicorn's own port


def _try_store(config: Config) -> Finding:
    """Whether a session could be stored now, by storing one."""
    name = f"session store {config.store_name}"
    try:
        store = open_store(config)
        store.check()
        evicts = isinstance(store, RedisStore) and store.may_evict()
    except errors.Error as error:
        advice = "set WSGI_OAUTH_SESSION_STORE to a place that only this user can write to, and can"
        if config.session_store.startswith("redis"):
            advice = "see that the server runs, that this machine may connect to it, and that the password is right"
        return Finding("FAIL", f"{name}: {error}", advice)
    if evicts:
        advice = "set its maxmemory-policy to noeviction: then new sign-ins wait until there is room"
        return Finding("warn", f"{name}: signs users out when the server's memory is full", advice)
    if config.session_store.startswith("memory"):
        advice = "start gunicorn with one worker, or set WSGI_OAUTH_SESSION_STORE=file:/some/folder"
        return Finding("warn", f"{name} is for one process, and forgets when that ends", advice)
    return Finding("ok", f"{name}: a session can be stored")


def _look_at_limit(config: Config) -> Finding:
    what = f"of each worker's threads, up to {config.upstream_limit} may wait for the provider"
    if config.upstream_limit < THREADS:
        return Finding("ok", what)
    return Finding(
        "warn",
        f"{what}: that is all of gunicorn.conf.py's {THREADS}, and while a provider hangs nobody else is served",
        "set WSGI_OAUTH_UPSTREAM_LIMIT to fewer than gunicorn has --threads",
    )


class Questions:
    """Something harmless to ask of each endpoint, in the way the application would ask it."""

    def __init__(self, config: Config, provider: Provider) -> None:
        self._provider = provider
        self._client = OAuth2Session(
            provider,
            config.client_id,
            config.client_secret,
            Transport(config.upstream_timeout, config.upstream_limit),
            redirect_uri=_redirect_uri(config),
        )
        self._answers: list[Response] = []
        self._client.hooks["response"].append(lambda answer, **_: self._answers.append(answer))

    def __iter__(self) -> Iterator[Finding]:
        yield self._ask("authorization", self._provider.authorization_url, self._authorization)
        yield self._ask("token", self._provider.token_url, self._token)
        if self._provider.profile_url:  # else the ID token says who signed in
            yield self._ask("profile", self._provider.profile_url, self._profile)
        yield from self._clock()

    def _ask(self, name: str, url: str, question: Callable[[str], Finding]) -> Finding:
        try:
            answer = question(url)
        except (errors.ProviderUnreachable, errors.ProviderTimeout) as error:
            answer = Finding("FAIL", str(error), UNREACHABLE)
        except errors.Error as error:
            answer = Finding("FAIL", str(error), "compare the URL with the provider's manual")
        return replace(answer, what=f"{name} endpoint {url}: {answer.what}")

    def _authorization(self, url: str) -> Finding:
        """Knock as a browser would; from there on a person is needed."""
        question, _ = self._client.authorization_url(url, MADE_UP, code_challenge=MADE_UP, code_challenge_method="S256")
        answer = self._request("GET", question)
        back, _, parameters = answer.headers.get("Location", "").partition("?")
        error = dict(parse_qsl(parameters)).get("error")
        if back == self._client.redirect_uri and error:  # RFC 6749 4.1.2.1, before any person
            return Finding("FAIL", f"refuses every sign-in: {error!a}", "look at the scope first")
        if answer.status_code < 400:
            return Finding("ok", "answers")
        advice = "is this redirect URI registered? Start a sign-in in a browser, and read why not"
        return Finding("warn", f"answers with status {answer.status_code}", advice)

    def _token(self, url: str) -> Finding:
        """Offer a code that was never issued: who knows this client refuses the code alone."""
        seen = len(self._answers)
        try:
            self._client.fetch_token(url, code=MADE_UP, code_verifier=MADE_UP)
        except errors.CodeRefused:
            return Finding("ok", "answers, and accepts the client id and secret")
        except errors.ClientRefused as error:
            return Finding("FAIL", str(error), "copy the client id and secret again, or make a new secret")
        except errors.ProviderError as error:
            # Not every provider says that it is the code which it refuses (RFC 6749 5.2).
            if any(answer.status_code in (400, 401, 403) for answer in self._answers[seen:]):
                advice = "perhaps it only dislikes the made-up code of this check: sign in once"
                return Finding("warn", str(error), advice)
            raise
        return Finding("FAIL", "gives a token for a code that it never issued", "do not trust it")

    def _profile(self, url: str) -> Finding:
        """Ask without a token, and be refused."""
        status = self._request(self._provider.profile_method, url, Accept="application/json").status_code
        if status in (400, 401, 403):
            return Finding("ok", "answers, and wants a token")
        level = "FAIL" if status >= 500 else "warn"
        return Finding(level, f"answers with status {status} without a token", "is the URL right?")

    def _request(self, method: str, url: str, **headers: str) -> Response:
        return self._client.request(method, url, headers=headers, withhold_token=True)

    def _clock(self) -> Iterator[Finding]:
        """Compare the clocks: when a token ends is reckoned by this machine's."""
        for answer in self._answers[-1:]:
            try:
                theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
            except (KeyError, ValueError):
                return
            skew = round(time.time() - theirs)
            if abs(skew) <= SKEW:
                yield Finding("ok", "clock: agrees with the provider's")
            else:
                what = f"clock: {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} the provider's"
                yield Finding("warn", what, "set this machine's clock, or let NTP do it")
