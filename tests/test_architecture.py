"""The module map in docs/design.md agrees with the imports, and importing the package has no side effects."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import wsgi_oauth

if TYPE_CHECKING:  # mypy checks this function; it is never called
    import requests
    from typing_extensions import assert_type

    def check_types_of_responses(environ: dict[str, object]) -> None:
        client = wsgi_oauth.oauth2_session(environ)
        assert_type(client.get("https://api.example.com/"), requests.Response)
        assert_type(client.post("https://api.example.com/", json={}), requests.Response)


PACKAGE = Path(wsgi_oauth.__file__).parent
DESIGN = (PACKAGE.parent / "docs" / "design.md").read_text()


def module_name(path: str) -> str:
    """Return the dotted name of a file below wsgi_oauth/: ``oauth.client`` for ``oauth/client.py``."""
    return path.removesuffix("__init__.py").removesuffix(".py").rstrip("/").replace("/", ".")


def read_map(text: str) -> list[str]:
    """Return the modules in the list below the heading "Module map", from the bottom layer to the top.

    A package has the position after its last module, because its ``__init__.py`` may import from its modules.
    """
    section = re.split("(?m)^## ", text.partition("## Module map\n")[2])[0]
    modules: list[str] = []
    package = ""
    for indent, entry in re.findall(r"(?m)^( *)- `([\w./]+)`:", section):
        if package and not indent:
            modules.append(package)
            package = ""
        if entry.endswith("/"):
            package = module_name(entry)
        else:
            modules.append(module_name(entry))
    return [*modules, package] if package else modules


MAP = read_map(DESIGN)
MODULES = {module_name(str(path.relative_to(PACKAGE))): path for path in sorted(PACKAGE.rglob("*.py"))}


class Import(NamedTuple):
    """An import of a module of this package."""

    importer: str
    imported: str
    is_lazy: bool  # inside a function
    for_types_only: bool  # under `if TYPE_CHECKING:`
    line: int

    def __str__(self) -> str:
        return f"{MODULES[self.importer].relative_to(PACKAGE)}:{self.line} imports {self.imported or 'wsgi_oauth'}"


def find_imports(module: str) -> Iterator[Import]:
    """Find all imports of this package's modules in *module*, also inside functions and under TYPE_CHECKING."""
    path = MODULES[module]
    package = ["wsgi_oauth", *module.split(".")] if module else ["wsgi_oauth"]
    if path.name != "__init__.py":
        package = package[:-1]

    def visit(node: ast.AST, is_lazy: bool, for_types_only: bool) -> Iterator[Import]:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import errors` imports a module, `from .config import Config` a name from a module.
            full = [f"{origin}.{alias.name}" for alias in node.names]
            names = [name if name.partition(".")[2] in MODULES else origin for name in full]
        for name in names:
            top, _, rest = name.partition(".")
            if top == "wsgi_oauth":
                yield Import(module, rest, is_lazy, for_types_only, node.lineno)  # type: ignore[attr-defined]
        is_lazy |= isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types_only |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, is_lazy, for_types_only)

    yield from visit(ast.parse(path.read_text(), str(path)), is_lazy=False, for_types_only=False)


@cache
def all_imports() -> list[Import]:
    return [found for module in MODULES for found in find_imports(module)]


def is_demo(module: str) -> bool:
    return module.partition(".")[0] == "demo"


def is_lab(module: str) -> bool:
    """Return whether the module belongs to the attack lab, which runs the application in a process of its own."""
    return module.startswith("demo.lab")


def test_all_kinds_of_imports_are_found() -> None:
    assert any(each.importer == "app" and each.imported == "flow" and not each.is_lazy for each in all_imports())
    assert any(each.importer == "sessions.file" and each.imported == "errors" for each in all_imports())
    assert any(each.importer == "cli.demo" and is_demo(each.imported) and each.is_lazy for each in all_imports())


def test_the_map_lists_every_module_once() -> None:
    assert sorted(MAP) == sorted(MODULES)


def test_modules_import_only_from_modules_above_them_in_the_map() -> None:
    """This also excludes import cycles. Imports inside functions and under TYPE_CHECKING count, too."""
    position = {module: number for number, module in enumerate(MAP)}
    assert [str(each) for each in all_imports() if position[each.imported] >= position[each.importer]] == []


def test_the_demo_provider_imports_nothing_of_the_client() -> None:
    importers = {each.importer for each in all_imports() if is_demo(each.importer) and not is_demo(each.imported)}
    templates = {
        each.imported for each in all_imports() if each.importer == "demo.provider_pages" and not is_demo(each.imported)
    }
    assert templates == {"web.page_templates"}
    assert {each for each in importers if not is_lab(each)} == {
        "demo.own_pages",
        "demo.provider_pages",
        "demo.traced_app",
    }


def test_the_application_imports_neither_the_demo_nor_the_testing_kit() -> None:
    importers = {each.importer for each in all_imports() if is_demo(each.imported) and not is_demo(each.importer)}
    assert {importer.partition(".")[0] for importer in importers} == {"cli", "testing"}
    by_cli = [each for each in all_imports() if each.importer.startswith("cli.") and is_demo(each.imported)]
    assert [str(each) for each in by_cli if not each.is_lazy] == []
    testing = {each.importer for each in all_imports() if each.imported.partition(".")[0] == "testing"}
    assert {importer.partition(".")[0] for importer in testing} == {"testing"}


def test_session_stores_know_nothing_of_http_and_oauth() -> None:
    libraries = {"werkzeug", "requests", "oauthlib", "requests_oauthlib", "http", "json"}
    for module in ("sessions.store", "sessions.memory", "sessions.file", "sessions.redis"):
        assert find_libraries(module).isdisjoint(libraries)


def find_libraries(module: str) -> set[str]:
    """Return the top-level names of the libraries that *module* imports."""
    nodes = list(ast.walk(ast.parse(MODULES[module].read_text())))
    direct = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in direct | named}


def test_public_names_are_documented() -> None:
    for name in wsgi_oauth.__all__:
        assert getattr(wsgi_oauth, name).__doc__, name
    assert "flow.py" in (wsgi_oauth.__doc__ or "")


# Each of these tests runs a script in a new process, after all other libraries have been imported.

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


def test_import_has_no_side_effects(tmp_path: Path) -> None:
    """S63: it reads no environment, opens no file or socket, and changes no thread, signal or logging."""
    loaded = run(MODULES_AFTER_IMPORT, tmp_path).split()
    others = [name for name in loaded if name.partition(".")[0] not in {"wsgi_oauth", "__main__"}]
    assert run(WATCH, tmp_path, *others) == ""
    assert list(tmp_path.iterdir()) == []


def test_import_loads_neither_demo_nor_commands_nor_servers(tmp_path: Path) -> None:
    loaded = set(run(MODULES_AFTER_IMPORT, tmp_path).split())
    assert loaded.isdisjoint(
        {"wsgi_oauth.demo", "wsgi_oauth.cli.main", "wsgi_oauth.testing", "gunicorn", "gevent", "argparse", "pytest"}
    )


def test_create_app_reads_no_environment(tmp_path: Path) -> None:
    assert run(WITHOUT_ENVIRONMENT, tmp_path) == ""


def test_every_module_can_be_imported_without_warnings(tmp_path: Path) -> None:
    names = [f"wsgi_oauth{name and '.'}{name}" for name in sorted(MODULES.keys() - {"__main__"})]
    assert run(f"import importlib\nfor name in {names}: importlib.import_module(name)", tmp_path) == ""
