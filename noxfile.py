"""Development tasks: ``nox -s quick``, ``nox -s lint types``. ``nox --list`` names them all."""

import nox

nox.needs_version = ">=2024.3.2"
nox.options.sessions = ["quick", "lint", "types"]
nox.options.reuse_venv = "yes"

# The quick session leaves these files out, because their tests start processes, wait for timeouts, or try many cases.
SLOW = [
    "tests/independent",
    "tests/test_browser.py",
    "tests/test_deployment.py",
    "tests/test_concurrent_first_use.py",
    "tests/test_demo_command.py",
    "tests/test_demo_in_browser.py",
    "tests/test_embedding.py",
    "tests/test_examples.py",
    "tests/test_file_store.py",
    "tests/test_file_store_faults.py",
    "tests/test_gate_under_gunicorn.py",
    "tests/test_gunicorn.py",
    "tests/test_hostile_provider.py",
    "tests/test_independent_providers.py",
    "tests/test_lab.py",
    "tests/test_pages_in_browser.py",
    "tests/test_properties.py",
    "tests/test_recipes.py",
    "tests/test_redis_store.py",
    "tests/test_refresh.py",
    "tests/test_reload.py",
    "tests/test_request_limit.py",
    "tests/test_servers.py",
    "tests/test_sessions_command.py",
    "tests/test_testing_kit.py",
    "tests/test_token_endpoint.py",
    "tests/test_trace.py",
    "tests/test_transport.py",
]


@nox.session
def quick(session: nox.Session) -> None:
    """Run the fast tests: file sessions only, no gunicorn, about a minute."""
    session.install("-e", ".[test]")
    ignored = [f"--ignore={path}" for path in SLOW]
    session.run("pytest", "-q", "-n", "4", *ignored, *session.posargs, env={"TEST_STORES": "file"})


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, and measure branch coverage."""
    session.install("-e", ".[test]")
    session.run("pytest", "-q", "-n", "4", "--cov", "--cov-branch", "--cov-report=term:skip-covered", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style of the code, its formatting and the spelling."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types: strictly in the package, leniently in the tests."""
    session.install("-e", ".[test,lint]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Run the code in the documents, check their links, and compare the generated documents with their sources."""
    session.install("-e", ".[docs]")
    files = ["tests/test_readme.py", "tests/test_embedding.py", "tests/test_requirements.py", "tests/test_examples.py"]
    session.run("pytest", "-q", "-n", "4", *files, *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Run each benchmark briefly. Read benchmarks/README.md before you trust a figure."""
    session.install("-e", ".[test]")
    for name in ("startup", "store", "requests", "gate"):
        session.run("python", "-m", f"benchmarks.{name}", "--rounds", "2", *session.posargs)
    session.run("python", "-m", "benchmarks.growth", "--rounds", "2", "--sessions", "1000", *session.posargs)
