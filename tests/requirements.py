"""What must hold, which tests prove it, and what becomes possible when a guard is taken out.

::

    python tests/requirements.py            # print it
    python tests/requirements.py --write    # put it into docs/security.md

A test says in its docstring, or in that of its class, which requirements it proves: ``S12``, or ``S18 to S20``. What an
attack is refused by stands above its lesson (``tests/attacks/lesson.py``).
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
DOCUMENT = TESTS.parent / "docs" / "security.md"

REQUIREMENTS = {
    "State, PKCE, issuer": {
        1: "A state is good only in the browser that started the sign-in, on every store.",
        2: "A callback without a state, or with one that was never issued, is refused.",
        3: "A state is good for one use, even when the exchange fails and when twenty copies come at once.",
        4: "A state expires on the server, after ten minutes.",
        5: "Several tabs can sign in side by side, and a thousand starts leave a session small.",
        6: "A state is compared in constant time, as bytes.",
        7: "A state is 256 random bits, and where to go afterwards is not in it.",
        8: "PKCE with S256, always; the verifier is fresh, and leaves only for the token endpoint.",
        9: "The issuer in the answer is the configured one, to the character.",
        10: "With several providers, a sign-in ends with the one it began with.",
        11: "The redirect URI comes from the configuration, and is the same in both requests.",
    },
    "The authorization response": {
        12: "Each error of the provider ends in a page of our own; a login that exists stays.",
        13: "A parameter that comes twice is refused.",
        14: "An empty parameter is an absent one; an error beside a code is an error.",
        15: "Control characters, broken encodings and long values get an answer, and break no line of a log.",
        16: "HEAD, a prefetch and any other method consume nothing.",
        17: "A sign-in ends at an address without code and state.",
    },
    "The token endpoint, and everything upstream": {
        18: "Whatever the token endpoint answers that is no token signs nobody in.",
        19: "A token is taken from JSON alone, with a status of 2xx.",
        20: "A token that is kept is one that works.",
        21: "When a token expires is reckoned here.",
        22: "Scopes are compared as sets, and differences recorded.",
        23: "No redirect is followed with a secret.",
        24: "A deadline is for the whole answer, by the clock on the wall.",
        25: "An answer is at most 1 MiB, decompressed.",
        26: "A provider that cannot be reached is a 502, without addresses or exception texts.",
        27: "A token travels in the Authorization header, and nowhere else.",
        28: "What the provider says about a token (401, 403, 429, 5xx) is passed on as what it is.",
        29: "Endpoints come from the configuration; plain http is for this machine alone.",
        30: "An ID token is checked as OpenID Connect says.",
        31: "Of all who find a token expired, one refreshes it.",
        32: "A crash in the middle of a refresh ends in a clean new sign-in.",
    },
    "The browser's side": {
        33: "A sign-in ends on this site, as a browser reads the address.",
        34: "Other hosts than ours get a 400 before any work.",
        35: "X-Forwarded-* and Forwarded count only from proxies that are trusted.",
        36: "The session's id changes at each sign-in; nobody inherits somebody else's data.",
        37: "An id that this server has not given is never adopted; who only looks gets no session.",
        38: "The cookie is `__Host-`, Secure, HttpOnly, SameSite=Lax.",
        39: "Two session cookies in one request sign nobody in as somebody else.",
        40: "A session ends on the server, when idle and after its lifetime.",
        41: "A sign-out takes a POST of this site, deletes the session and clears the cookie.",
        42: "A sign-out wins over a save or a refresh at the same moment.",
        43: "A page full of images disturbs neither a login nor a sign-in on its way.",
        44: "A sign-out revokes the token at the provider, in bounded time.",
        45: "Nothing that belongs to a user is kept in a cache.",
        46: "Pages run no scripts, are shown in no frame, tell no Referer, load nothing from others.",
        47: "What the provider says about an error is never shown.",
        48: "Request bodies are bounded.",
    },
    "Logs": {
        49: "No secret in any log, page, Location or Referer, with every logger at DEBUG.",
        50: "The access log has no query and no Referer.",
        51: "Nobody writes lines of their own into the log; sign-ins, refusals and sign-outs are in it.",
    },
    "The store": {
        52: "A listing of the sessions opens none of them; tokens at rest can be sealed.",
        53: "Files are for their owner alone, under any umask; a folder of others is refused.",
        54: "A cookie that is no id opens nothing.",
        55: "A link, a pipe, a device or a huge file in a session's place counts as absent.",
        56: "A damaged session is none, and no session is a program.",
        57: "A session is written in full before it is one: a change under another name, a new one without an expiry.",
        58: "A disk that is full or broken is a 503, and costs nobody their session.",
        59: "A flood of anonymous starts is bounded and evicts nobody who is signed in.",
        60: "A kill at any point leaves each session wholly old or wholly new.",
        61: "Nothing is shared across a fork.",
        62: "A worker that has run out of time leaves everything consistent.",
        63: "Mounted elsewhere, it changes nothing of its host.",
    },
}
KNOWN = {number: words for section in REQUIREMENTS.values() for number, words in section.items()}

PENDING: set[int] = set()
"""What no test proves, because what it is about is not built. A test for one of them must take it out of here."""


class Proof(NamedTuple):
    """A test, or a class of them, that says what it proves."""

    file: str  # below tests/
    names: tuple[str, ...]  # of the class, of the function
    requirements: frozenset[int]

    @property
    def id(self) -> str:
        """As pytest names it."""
        return "::".join((f"tests/{self.file}", *self.names))

    @property
    def link(self) -> str:
        return f"[{sentence(self.names)}](../tests/{self.file})"


def sentence(names: tuple[str, ...]) -> str:
    """``TestTheState``, ``test_is_used_once``: the state is used once."""
    words = [re.sub("(?<=.)([A-Z])", r" \1", name.removeprefix("Test")) for name in names]
    return " ".join(word.removeprefix("test_").replace("_", " ").lower() for word in words)


@cache
def proofs() -> list[Proof]:
    """Return every marked test, the attacks first."""
    files = sorted(TESTS.rglob("test_*.py"), key=lambda path: (path.parent == TESTS, path))
    return [proof for path in files for proof in _marked(path)]


def _marked(path: Path) -> Iterator[Proof]:
    def visit(node: ast.AST, names: tuple[str, ...], above: frozenset[int]) -> Iterator[Proof]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and child.name.lower().startswith("test"):
                own = frozenset(numbers(ast.get_docstring(child) or "")) - above
                if own:
                    yield Proof(str(path.relative_to(TESTS)), (*names, child.name), own)
                if isinstance(child, ast.ClassDef):
                    yield from visit(child, (*names, child.name), own)

    return visit(ast.parse(path.read_text()), (), frozenset())


def numbers(docstring: str) -> Iterator[int]:
    for first, last in re.findall(r"\bS([1-9][0-9]?)\b(?: to S([1-9][0-9]?)\b)?", docstring):
        yield from range(int(first), int(last or first) + 1)


def proved() -> dict[int, list[Proof]]:
    """Return the tests of each requirement."""
    found: dict[int, list[Proof]] = {number: [] for number in KNOWN}
    for proof in proofs():
        for number in proof.requirements:
            found.setdefault(number, []).append(proof)
    return found


def lessons() -> dict[Proof, list[tuple[str, ...]]]:
    """Return the attacks, each with its guards; a guard is the dotted names that are taken out together."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))  # as pytest does
    guards = {
        (f"{module.name.replace('.', '/')}.py", name): [tuple(without) for without in function.guards]
        for module in iter_modules([str(TESTS / "attacks")], "attacks.")
        for name, function in vars(importlib.import_module(module.name)).items()
        if hasattr(function, "guards") and name.startswith("test_")
    }
    return {proof: guards[proof.file, proof.names[-1]] for proof in proofs() if (proof.file, proof.names[-1]) in guards}


def recited(passed: list[str], failed: list[str]) -> Iterator[str]:
    """Say of each requirement that these tests, by their ids, are about whether it holds."""
    for number, tests in proved().items():
        ids = tuple(proof.id for proof in tests)
        good, bad = (sum(_is_part(test, ids) for test in results) for results in (passed, failed))
        if good or bad:
            verdict = f"{bad} of {good + bad} tests fail" if bad else f"holds in {good} tests"
            yield f"S{number:<3} {KNOWN.get(number, '')} {verdict}"


def _is_part(test: str, ids: tuple[str, ...]) -> bool:
    name = test.partition("[")[0]
    return any(name == id or name.startswith(f"{id}::") for id in ids)  # noqa: A001  # pytest's word


def document() -> Iterator[str]:
    """Return what stands in docs/security.md between its two comments, in lines."""
    found = proved()
    for section, requirements in REQUIREMENTS.items():
        yield f"\n### {section}\n"
        for number, words in requirements.items():
            tests = "; ".join(proof.link for proof in found[number]) or "Not built yet."
            yield f"- **S{number}** {words}<br>\n  {tests}"
    yield "\n### Without a guard\n"
    yield "Each of these was taken out, alone, or together where two stand behind each other, and the attacks beside it"
    yield "succeeded.\n"
    yield "| guard | what succeeds without it |\n|---|---|"
    table = defaultdict(list)
    for proof, guards in lessons().items():
        for guard in dict.fromkeys(guards):
            table[guard].append(proof.link)
    for guard in sorted(table):
        names = " and ".join(f"`{name.removeprefix('wsgi_oauth.')}`" for name in guard)
        yield f"| {names} | {'; '.join(table[guard])} |"


BEGIN, END = "<!-- written by tests/requirements.py -->", "<!-- to here -->"


def updated(text: str) -> str:
    """Return *text*, the whole document, with what belongs between the comments today."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, *document(), "", END + after])


if __name__ == "__main__":
    if "--write" in sys.argv:
        DOCUMENT.write_text(updated(DOCUMENT.read_text()))
    else:
        sys.stdout.write("\n".join(document()) + "\n")
