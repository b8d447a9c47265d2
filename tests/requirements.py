"""List the security requirements with their tests, and the guards with the attacks that they prevent.

::

    python tests/requirements.py            # print the document
    python tests/requirements.py --write    # write docs/requirements.md

A test names the requirements that it proves in its docstring or in the docstring of its class: ``S12``, or
``S18 to S20``. The decorator of an attack names its guards (``tests/attacks/lesson.py``).
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs" / "requirements.md"

REQUIREMENTS = {
    "State, PKCE, issuer": {
        1: "A state is accepted only from the browser that started the sign-in, with every session store.",
        2: "A callback without a state, or with an unknown state, is rejected.",
        3: "A state is used once, even if the exchange fails or twenty identical callbacks arrive at the same time.",
        4: "A state expires on the server after the lifetime of a sign-in; a later code is never exchanged.",
        5: "Parallel sign-ins in several tabs all succeed, and a thousand starts leave the session small.",
        6: "States are compared in constant time, as bytes.",
        7: "A state has 256 random bits and does not contain the return URL.",
        8: "Sign-ins use PKCE with S256, except where a provider rejects it; the verifier is fresh and stays secret.",
        9: "The issuer in the authorization response must equal the configured issuer exactly.",
        10: "With several providers, a sign-in must end with the provider that it started with.",
        11: "The redirect URI comes from the configuration and is identical in both requests.",
    },
    "The authorization response": {
        12: "Each error response of the provider leads to a page of this application; an existing session stays.",
        13: "A repeated parameter is rejected.",
        14: "An empty parameter counts as absent; an error together with a code counts as an error.",
        15: "Control characters, invalid encodings and long values are handled and cannot break a log line.",
        16: "HEAD, prefetches and other methods consume neither state nor code.",
        17: "A successful sign-in ends at a URL without code and state.",
    },
    "The token endpoint and other requests to the provider": {
        18: "An answer of the token endpoint that contains no valid token signs no user in.",
        19: "A token is accepted only from a 2xx status, with a JSON body or an exactly declared form-encoded one.",
        20: "A stored token always works: malformed tokens are rejected, unreadable details ignored with a warning.",
        21: "The expiry of a token is computed from `expires_in` with the local clock.",
        22: "Scopes are compared as sets, and differences are recorded.",
        23: "Redirects are never followed with a secret.",
        24: "A deadline covers the whole answer, in wall-clock time.",
        25: "An answer has at most 1 MiB after decompression.",
        26: "An unreachable provider leads to a 502 that contains no URLs and no exception texts.",
        27: "An access token is sent in the Authorization header only.",
        28: "The status of a user document request (401, 403, 429, 5xx) is never turned into a success.",
        29: "Endpoints come from settings or the issuer; plain http is accepted for loopback and named hosts only.",
        30: "ID tokens are validated according to OpenID Connect Core 3.1.3.7.",
        31: "Of many requests that find an expired token, exactly one refreshes it.",
        32: "A crash during a refresh leads to a clean new sign-in.",
    },
    "The browser's side": {
        33: "A sign-in ends at a URL of this site, as a browser resolves it.",
        34: "A request for an unknown host gets a 400 before any other work.",
        35: "X-Forwarded-* and Forwarded are ignored, unless they come from a trusted proxy.",
        36: "The session id changes at each sign-in; a user never inherits another user's data.",
        37: "An unknown session id is never adopted; a request that needs no session creates none.",
        38: "The session cookie has the prefix `__Host-`, Secure (both on https sites), HttpOnly and SameSite=Lax.",
        39: "A request with two session cookies never selects another user's session.",
        40: "The server ends a session after its idle time and after its lifetime.",
        41: "Signing out requires a same-origin POST, deletes the session and clears the cookie.",
        42: "Signing out wins against a save or a refresh at the same time.",
        43: "A page full of images disturbs neither a session nor an unfinished sign-in.",
        44: "Signing out revokes the token at the provider within bounded time.",
        45: "Responses with user data are never stored in a cache.",
        46: "Pages run no scripts, cannot be framed, send no Referer and load nothing from third parties.",
        69: "A logout token of the provider is verified, good once, and ends sessions in every worker at once.",
        47: "The provider's error description is shown only after the state was accepted, and only as text.",
        48: "The size of request bodies is limited.",
    },
    "The provider's own words": {
        72: "The provider's error description is logged, bounded and masked; a page shows it only as text.",
    },
    "The gate": {
        64: "/verify answers from the session or an access token; forged headers change neither access nor identity.",
        74: "A session belongs to the client id with which it was made.",
        65: "The application behind the gate does not see the session cookie.",
        67: "Access tokens are random, hashed, limited in time and revocable at once; they open the application alone.",
        68: "Access tokens of the provider are verified; an ID token is not an access token.",
        73: "No path rule of the gate can be bypassed by another spelling of the path.",
    },
    "Logs": {
        49: "No secret appears in any log, page, Location or Referer, with every logger at DEBUG.",
        50: "The access log contains no query string and no Referer.",
        51: "Input cannot inject log lines; sign-ins, refusals and sign-outs are logged.",
        71: "Audit events say who, from where, why and in which session, and contain no secret.",
        70: "A form of the provider is accepted with a cookie for one state only, which is no session.",
        72: "The provider's description of an error is logged in printable ASCII, short and without secrets.",
    },
    "The session store": {
        52: "A listing of the sessions reveals no session id; tokens at rest can be encrypted.",
        53: "Session files are readable by their owner only, under any umask; a folder of other users is rejected.",
        54: "A malformed session id opens nothing.",
        55: "A link, a pipe, a device or a huge file in place of a session counts as absent.",
        56: "A damaged session is rejected, and a session never contains executable data.",
        57: "A session becomes visible only when it is complete.",
        58: "A full or failing disk leads to a 503, and no session is lost.",
        59: "A flood of anonymous starts is bounded, and never evicts a signed-in session.",
        60: "After a kill at any point, each session is in its old or in its new version.",
        61: "A forked worker shares no socket, descriptor or lock with its parent.",
        62: "A worker that is stopped by its timeout leaves a consistent state.",
        63: "Embedded in another process, the application changes none of its global state.",
        66: "A further site gets a session with a ticket that is good once, briefly, for it and one browser only.",
        75: "A link to the sign-in passes no parameter on to the provider unless the operator lists it.",
        76: "Concurrent first use of a shared object raises no error, and housekeeping fails no request.",
    },
}
KNOWN = {number: text for section in REQUIREMENTS.values() for number, text in section.items()}

PENDING: set[int] = set()
"""Requirements without a test, because the feature is not implemented. Remove a number when its test is added."""

INTRODUCTION = """# Requirements and their tests

<!-- Written by `python tests/requirements.py --write`. Change the requirements and the tests, not this file. -->

Each requirement is listed with the tests that prove it. [security.md](security.md) states the threat model and the
known limits.
"""
GUARDS = """
## Guards

Each attack in [`tests/attacks`](../tests/attacks) runs twice: with its guard, where it fails, and without the guard,
where it succeeds. Guards in the same row back each other up: the attack succeeds only if all of them are removed.

| guard | attacks that succeed without it |
|---|---|"""


class Proof(NamedTuple):
    """A test, or a class of tests, that names the requirements it proves."""

    file: str  # relative to tests/
    names: tuple[str, ...]  # the names of the class, if there is one, and of the function
    requirements: frozenset[int]

    @property
    def id(self) -> str:
        """pytest's node id."""
        return "::".join((f"tests/{self.file}", *self.names))

    @property
    def link(self) -> str:
        return f"[{sentence(self.names)}](../tests/{self.file})"


def sentence(names: tuple[str, ...]) -> str:
    """Return the names of a test as words: ``TestTheState``, ``test_is_used_once`` become "the state is used once"."""
    words = [re.sub("(?<=.)([A-Z])", r" \1", name.removeprefix("Test")) for name in names]
    return " ".join(word.removeprefix("test_").replace("_", " ").lower() for word in words)


@cache
def proofs() -> list[Proof]:
    """Return every test that names a requirement, the attacks first."""
    files = sorted(TESTS.rglob("test_*.py"), key=lambda path: (path.parent == TESTS, path))
    return [proof for path in files for proof in _proofs_in(path)]


def _proofs_in(path: Path) -> Iterator[Proof]:
    def visit(node: ast.AST, names: tuple[str, ...], inherited: frozenset[int]) -> Iterator[Proof]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and child.name.lower().startswith("test"):
                own = frozenset(parse_numbers(ast.get_docstring(child) or "")) - inherited
                if own:
                    yield Proof(str(path.relative_to(TESTS)), (*names, child.name), own)
                if isinstance(child, ast.ClassDef):
                    yield from visit(child, (*names, child.name), own)

    return visit(ast.parse(path.read_text()), (), frozenset())


def parse_numbers(docstring: str) -> Iterator[int]:
    """Return the numbers of the requirements that *docstring* names."""
    for first, last in re.findall(r"\bS([1-9][0-9]?)\b(?: to S([1-9][0-9]?)\b)?", docstring):
        yield from range(int(first), int(last or first) + 1)


def proofs_by_requirement() -> dict[int, list[Proof]]:
    """Return the tests of each requirement, also of unknown numbers that a test names."""
    found: dict[int, list[Proof]] = {number: [] for number in KNOWN}
    for proof in proofs():
        for number in proof.requirements:
            found.setdefault(number, []).append(proof)
    return found


def guards_by_attack() -> dict[Proof, list[tuple[str, ...]]]:
    """Return the guards of each attack: each is a tuple of dotted names that are removed together."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))  # because pytest does the same
    guards = {
        (f"{module.name.replace('.', '/')}.py", name): [tuple(without) for without in function.guards]
        for module in iter_modules([str(TESTS / "attacks")], "attacks.")
        for name, function in vars(importlib.import_module(module.name)).items()
        if hasattr(function, "guards") and name.startswith("test_")
    }
    return {proof: guards[proof.file, proof.names[-1]] for proof in proofs() if (proof.file, proof.names[-1]) in guards}


def report(passed: list[str], failed: list[str]) -> Iterator[str]:
    """Return a line for each requirement that the tests with these node ids prove."""
    for number, tests in proofs_by_requirement().items():
        ids = tuple(proof.id for proof in tests)
        good, bad = (sum(_belongs_to(test, ids) for test in results) for results in (passed, failed))
        if good or bad:
            verdict = f"{bad} of {good + bad} tests fail" if bad else f"{good} tests pass"
            yield f"S{number:<3} {KNOWN.get(number, '')} {verdict}"


def _belongs_to(test: str, ids: tuple[str, ...]) -> bool:
    name = test.partition("[")[0]
    return any(name == id or name.startswith(f"{id}::") for id in ids)  # noqa: A001  # pytest's own name for it


def document() -> str:
    """Return the text of docs/requirements.md."""
    lines = [INTRODUCTION]
    found = proofs_by_requirement()
    for section, requirements in REQUIREMENTS.items():
        lines.append(f"## {section}\n")
        for number, text in requirements.items():
            tests = "; ".join(proof.link for proof in found[number]) or "Not implemented yet."
            lines.append(f"- **S{number}** {text}<br>\n  {tests}")
        lines.append("")
    lines[-1] = GUARDS
    table = defaultdict(list)
    for proof, guards in guards_by_attack().items():
        for guard in dict.fromkeys(guards):
            table[guard].append(proof.link)
    for guard in sorted(table):
        names = " and ".join(f"`{name.removeprefix('wsgi_oauth.')}`" for name in guard)
        lines.append(f"| {names} | {'; '.join(table[guard])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        DOCUMENT.write_text(document())
    else:
        sys.stdout.write(document())
