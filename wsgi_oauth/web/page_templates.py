"""The templates of the pages, and their replacements in the folder of ``WSGI_OAUTH_TEMPLATES``.

Jinja2 is imported when the first page is rendered, because most processes of a healthy application render none.
"""

from __future__ import annotations

import logging
import os
import traceback
from base64 import b64encode
from collections.abc import Callable
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment

BUILT_IN = files("wsgi_oauth.web") / "templates"  # not by their path, because the package may be in a zip file
STYLE = "style.css"
_IMPORT = f'@import "wsgi_oauth/{STYLE}";'
_log = logging.getLogger("wsgi_oauth")


class PageTemplates:
    """The templates of an application, with the operator's in *folder* if it is not "". All threads share them."""

    def __init__(self, folder: str = "") -> None:
        self.folder = folder
        self.style = Markup(_read_style(folder))  # noqa: S704  # from this package or the operator
        self._environment = cache(partial(_create_environment, folder)) if folder else _built_in_environment

    def render(self, name: str, variables: dict[str, Any], *, request_id: str) -> str:
        """Return a page: the operator's, or the built-in one if that fails."""
        if self.folder:
            try:
                return self.render_own(name, variables)
            except Exception as error:  # noqa: BLE001  # templates can raise anything
                _log.error(
                    "[%s] WSGI_OAUTH_TEMPLATES: %s; users see the built-in %s until this is corrected",
                    *(request_id, describe_failure(error), name),
                )
        return self._render(_built_in_environment(), name, variables)

    def render_own(self, name: str, variables: dict[str, Any]) -> str:
        """Return a page of the operator's templates, or raise any exception. Built-in ones replace missing ones."""
        return self._render(self._environment(), name, variables)

    def _render(self, environment: Environment, name: str, variables: dict[str, Any]) -> str:
        page = environment.get_template(name).render(variables, style=self.style)
        # JSON of a provider can contain lone surrogates, which cannot be sent in UTF-8 (RFC 8259 8.2).
        return page.encode(errors="replace").decode()


@cache  # because compiling the templates takes longer than a sign-in
def _built_in_environment() -> Environment:
    return _create_environment("")


def _create_environment(folder: str) -> Environment:
    """Return an environment that searches *folder*, then the built-in templates. It compiles each template once.

    ``{% extends "wsgi_oauth/layout.html" %}`` names the built-in template even if *folder* has one of that name.
    """
    from jinja2 import (  # noqa: PLC0415
        ChoiceLoader,
        Environment,
        FileSystemLoader,
        PackageLoader,
        PrefixLoader,
        StrictUndefined,
        TemplateNotFound,
    )

    class OperatorLoader(FileSystemLoader):
        def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
            """Return a template. Raise OSError if the folder cannot be read: its templates only seem to be missing."""
            try:
                return super().get_source(environment, template)
            except TemplateNotFound:
                os.listdir(f"{folder}/.")  # the dot also requires permission to open files in the folder
                raise

    built_in = PackageLoader("wsgi_oauth.web")
    own = [OperatorLoader(folder)] if folder else []
    return Environment(
        loader=ChoiceLoader([*own, built_in, PrefixLoader({"wsgi_oauth": built_in})]),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _read_style(folder: str) -> str:
    """Return the operator's style sheet with the built-in one in place of its ``@import``, or the built-in one."""
    built_in = (BUILT_IN / STYLE).read_text(encoding="utf-8")
    if folder:
        try:
            return (Path(folder) / STYLE).read_text(encoding="utf-8").replace(_IMPORT, built_in)
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            _log.error("WSGI_OAUTH_TEMPLATES: %s: %s; the built-in style sheet is used", STYLE, describe_failure(error))
    return built_in


def hash_style(style: str) -> str:
    """Return the expression that permits *style* in a Content-Security-Policy (CSP 3, 2.3.1)."""
    return f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"


def describe_failure(error: Exception) -> str:
    """Return a one-line description of a template's failure, with file and line number if they are known."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.endswith(".html")]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: " if frames else ""
    return f"{place}{type(error).__name__}: {' '.join(ascii(str(error))[1:-1].split())}"
