"""The rooms of the house: each imports only from the floors below it, and entering by the door moves no furniture."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import wsgi_oauth

PACKAGE = Path(wsgi_oauth.__file__).parent

# From the ground floor up. A module that is not listed has no place yet; think where it belongs.
ROOMS = [
    "errors",
    "urls",
    "polling",
    "config.checks",
    "config.environ",
    "config.settings",
    "config",
    "sessions",
    "sessions.store",
    "sessions.memory",
    "sessions.file",
    "sessions.redis",
    "sessions.keys",
    "sessions.encoding",
    "sessions.encryption",
    "sessions.cookie",
    "sessions.session",
    "sessions.manager",
    "transport",
    "transport.limit",
    "transport.json",
    "transport.deadline",
    "transport.adapter",
    "transport.pool",
    "oauth",
    "oauth.provider",
    "oauth.presets",
    "oauth.configured",
    "oauth.identity",
    "oauth.token",
    "oauth.resource",
    "oauth.openid",
    "oauth.client",
    "oauth.refresh",
    "oauth.registration",
    "oauth.access",
    "web",
    "web.lazy",
    "web.handler",
    "sign_in",
    "web.pages",
    "web.steps",
    "flow",
    "web.health",
    "app",
    "gate",
    "gate.middleware",
    "",  # wsgi_oauth itself: the public names
    "cli",
    "cli.sessions",
    "cli.check",
    "demo",
    "demo.server",
    "demo.fault_injection",
    "demo.faults",
    "demo.provider_pages",
    "demo.grants",
    "demo.local_provider",
    "demo.browser",
    "demo.explanations",
    "demo.masking",
    "demo.printer",
    "demo.walk",
    "demo.launcher",
    "testing.wsgi_client",
    "testing.probe",
    "testing.provider",
    "testing.sign_in",
    "testing.embedding",
    "testing",
    "cli.demo",
    "cli.main",
    "__main__",
]
FLOOR = {room: floor for floor, room in enumerate(ROOMS)}


class Import(NamedTuple):
    """One import of something of this project."""

    importer: str
    imported: str
    lazily: bool  # inside a function
    for_types_only: bool  # under `if TYPE_CHECKING:`
    line: int


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {room(path): path for path in sorted(PACKAGE.rglob("*.py"))}
DEMO = {name for name in MODULES if name.partition(".")[0] == "demo"}


def imports_of(module: str) -> Iterator[Import]:
    path = MODULES[module]
    package = ["wsgi_oauth", *module.split(".")] if module else ["wsgi_oauth"]
    if path.name != "__init__.py":
        package = package[:-1]

    def visit(node: ast.AST, lazily: bool, types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from found(alias.name, node.lineno, lazily, types)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from . import errors` is a module, `from .config import Config` a name in one
                full = f"{origin}.{alias.name}"
                yield from found(full if full.partition(".")[2] in MODULES else origin, node.lineno, lazily, types)
        inside = lazily or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        checked = types or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside, checked)

    def found(name: str, line: int, lazily: bool, types: bool) -> Iterator[Import]:
        top, _, rest = name.partition(".")
        if top == "wsgi_oauth":
            yield Import(module, rest, lazily, types, line)

    yield from visit(ast.parse(path.read_text(), str(path)), lazily=False, types=False)


EVERY_IMPORT = [found for module in MODULES for found in imports_of(module)]


def where(found: Import) -> str:
    return (
        f"{MODULES[found.importer].relative_to(PACKAGE.parent)}:{found.line} imports {found.imported or 'wsgi_oauth'}"
    )


def test_the_house_is_read_at_all() -> None:
    """So that the tests below look at something."""
    assert any(each.importer == "app" and each.imported == "flow" and not each.lazily for each in EVERY_IMPORT)
    assert any(each.importer == "sessions.file" and each.imported == "errors" for each in EVERY_IMPORT)
    assert any(each.importer == "cli.demo" and each.imported in DEMO and each.lazily for each in EVERY_IMPORT)
    assert any(each.for_types_only for each in EVERY_IMPORT)


def test_every_module_has_its_floor() -> None:
    assert MODULES.keys() == FLOOR.keys()


def test_a_module_imports_only_from_the_floors_below_it() -> None:
    """Lazy imports count, too; only what a type checker alone reads may look up."""
    upwards = [
        where(each) for each in EVERY_IMPORT if not each.for_types_only and FLOOR[each.imported] >= FLOOR[each.importer]
    ]
    assert upwards == []


def test_the_demo_stands_alone() -> None:
    """It is a provider and knows nothing of the client that it teaches."""
    assert [where(each) for each in EVERY_IMPORT if each.importer in DEMO and each.imported not in DEMO] == []


def test_only_the_command_line_knows_the_demo_and_only_when_it_is_asked_for() -> None:
    """And the kit for tests, which nothing else knows."""
    known = [each for each in EVERY_IMPORT if each.imported in DEMO and each.importer not in DEMO]
    assert {each.importer for each in known} == {"cli.demo", "testing.provider", "testing.sign_in"}
    assert [where(each) for each in known if each.importer == "cli.demo" and not each.lazily] == []
    testing = [each for each in EVERY_IMPORT if each.imported.partition(".")[0] == "testing"]
    assert {each.importer.partition(".")[0] for each in testing} == {"testing"}


def test_a_store_knows_nothing_of_http_or_oauth() -> None:
    for module in ("sessions.store", "sessions.memory", "sessions.file", "sessions.redis"):
        assert libraries_of(module).isdisjoint(
            {"werkzeug", "requests", "oauthlib", "requests_oauthlib", "http", "json"}
        )


def libraries_of(module: str) -> set[str]:
    """The top-level names of what *module* imports from elsewhere."""
    nodes = list(ast.walk(ast.parse(MODULES[module].read_text())))
    direct = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in direct | named}


def test_the_public_names_are_there_and_documented() -> None:
    for name in wsgi_oauth.__all__:
        assert getattr(wsgi_oauth, name).__doc__, name
    assert "flow.py" in (wsgi_oauth.__doc__ or "")


# Nothing happens on import: measured in a process of its own, with everything that is not ours imported before.

WATCH = """
import collections.abc, contextlib, importlib, importlib.util, logging, os, signal, sys, threading, warnings

for name in sys.argv[1:]:
    with contextlib.suppress(ImportError, Warning):
        importlib.import_module(name)

seen = []

class Watched(collections.abc.MutableMapping):
    def __init__(self, real): self.real = real
    def __getitem__(self, key): seen.append(f"environ read: {key}"); return self.real[key]
    def __setitem__(self, key, value): seen.append(f"environ written: {key}"); self.real[key] = value
    def __delitem__(self, key): seen.append(f"environ removed: {key}"); del self.real[key]
    def __iter__(self): seen.append("environ listed"); return iter(self.real)
    def __len__(self): return len(self.real)

FOLDER = os.path.dirname(importlib.util.find_spec("wsgi_oauth").origin)
TELLING = ("socket.", "subprocess.", "os.putenv", "os.unsetenv", "os.mkdir", "os.rename", "os.remove", "os.chmod",
           "os.fork", "os.exec", "os.system", "os.posix_spawn", "shutil.", "tempfile.", "signal.", "urllib.Request")

def hook(event, arguments):
    if event == "open" and not str(arguments[0]).startswith(FOLDER):
        seen.append(f"opened: {arguments[0]}")
    elif event.startswith(TELLING):
        seen.append(f"{event}: {arguments}")

def state():
    root = logging.getLogger()
    return {
        "threads": [thread.name for thread in threading.enumerate()],
        "umask": (old := os.umask(0o22), os.umask(old))[0],
        "folder": os.getcwd(),
        "signals": [signal.getsignal(number) for number in signal.valid_signals() if number not in (9, 19)],
        "warnings": list(warnings.filters),
        "root logger": (root.level, list(root.handlers), list(root.filters), logging.root.manager.disable),
        "library loggers": [
            (name, logger.level, list(logger.handlers), list(logger.filters), logger.propagate, logger.disabled)
            for name in ("oauthlib", "requests_oauthlib", "requests", "urllib3", "werkzeug")
            for logger in [logging.getLogger(name)]
        ],
        "hooks": (sys.excepthook, threading.excepthook, sys.stdout, sys.stderr, sys.getrecursionlimit()),
        "environment": dict(real),
    }

real, os.environ = os.environ, None
before = state()
os.environ = Watched(real)
sys.addaudithook(hook)
import wsgi_oauth
noted, os.environ = list(seen), real
after = state()
for name in before:
    if before[name] != after[name]:
        noted.append(f"{name}: {before[name]} became {after[name]}")
for name, logger in logging.Logger.manager.loggerDict.items():
    if name.startswith("wsgi_oauth") and isinstance(logger, logging.Logger):
        if logger.handlers or logger.level or logger.filters or not logger.propagate:
            noted.append(f"logger {name} is configured")
print(*noted, sep="\\n")
"""

MODULES_AFTER_IMPORT = """
import sys
import wsgi_oauth
print(*sorted(sys.modules))
"""

WITHOUT_ENVIRONMENT = """
import os
os.environ.clear()
import wsgi_oauth
assert not os.environ, os.environ
wsgi_oauth.create_app(wsgi_oauth.Config(client_id="id", client_secret="secret", session_store="memory:"))
assert not os.environ, os.environ
"""


def run(script: str, cwd: Path, *arguments: str) -> str:
    environ = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    done = subprocess.run(command, env=environ, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_importing_reads_and_changes_nothing(tmp_path: Path) -> None:
    """S63: no environment, no file, no socket, no thread, no signal, no logging; and no warning."""
    loaded = run(MODULES_AFTER_IMPORT, tmp_path).split()
    others = [name for name in loaded if name.partition(".")[0] not in {"wsgi_oauth", "__main__"}]
    assert run(WATCH, tmp_path, *others) == ""
    assert list(tmp_path.iterdir()) == []


def test_importing_brings_neither_demo_nor_commands_nor_servers(tmp_path: Path) -> None:
    loaded = set(run(MODULES_AFTER_IMPORT, tmp_path).split())
    assert loaded.isdisjoint(
        {"wsgi_oauth.demo", "wsgi_oauth.cli.main", "wsgi_oauth.testing", "gunicorn", "gevent", "argparse", "pytest"}
    )


def test_an_application_can_be_made_without_an_environment(tmp_path: Path) -> None:
    """The factory that takes everything it needs."""
    assert run(WITHOUT_ENVIRONMENT, tmp_path) == ""


def test_every_module_can_be_imported_without_a_warning(tmp_path: Path) -> None:
    names = [f"wsgi_oauth{name and '.'}{name}" for name in sorted(MODULES.keys() - {"__main__"})]
    assert run(f"import importlib\nfor name in {names}: importlib.import_module(name)", tmp_path) == ""
