"""The message catalogue: the texts that users see on pages, in several languages.

Each language has a file, ``en.json`` and so on, which has a text for each key. A text may have placeholders for values,
``{account}``; they have the same names in all languages. Programs get English, and so do the log and the commands.
"""

from __future__ import annotations

import json
import logging
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from werkzeug import Request

LANGUAGES = ("en", "de", "fr", "es")  # ISO 639-1
_log = logging.getLogger(__name__)


class Text(str):  # noqa: SLOT000  # it has attributes
    """A text of the catalogue in English, with the key and the values for :meth:`Texts.translate`."""

    key: str
    values: dict[str, Any]

    def __new__(cls, text: str, key: str, values: dict[str, Any]) -> Text:
        self = super().__new__(cls, text)
        self.key, self.values = key, values
        return self

    def __getnewargs__(self) -> tuple[str, str, dict[str, Any]]:  # type: ignore[override]
        """Return the arguments of ``__new__`` for copies and pickles."""
        return str(self), self.key, self.values


class Texts:
    """The texts in one language. A key that the language lacks has its English text."""

    def __init__(self, language: str, texts: dict[str, str]) -> None:
        self.language = language
        self._texts = texts

    def get(self, key: str, /, **values: Any) -> str:
        """Return a text as plain text, in which *values* replace the placeholders of the same names, or raise KeyError.

        Values that are texts of the catalogue are translated, too.
        """
        return self._texts[key].format(**{name: self.translate(value) for name, value in values.items()})

    def translate(self, text: Any) -> Any:
        """Return *text* in this language. The texts of an application are not in the catalogue, and are unchanged."""
        return self.get(text.key, **text.values) if isinstance(text, Text) else text


def english(key: str, /, **values: Any) -> str:
    """Return a text in English, as :meth:`Texts.get`, that :meth:`Texts.translate` translates into other languages."""
    return Text(ENGLISH.get(key, **values), key, values)


def duration(seconds: float) -> str:
    """Return a duration in English as a whole number of the largest possible unit: ``12 hours``, ``1 day``."""
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    unit, length = next(each for each in units if round(seconds) % each[1] == 0)
    number = round(seconds) // length
    return english(f"duration.{unit}" if number == 1 else f"duration.{unit}s", number=number)


def texts_for(request: Request) -> Texts:
    """Return the texts in the language that the browser prefers (RFC 9110 12.5.4), by lookup (RFC 4647 3.4).

    ``de-AT`` selects German, and so does ``de_AT``, as some apps write it. English is the default.
    """
    for language_range, quality in request.accept_languages:
        language = language_range.replace("_", "-").partition("-")[0].lower()
        if quality > 0 and language in LANGUAGES:
            try:
                return load(language)
            except (OSError, ValueError) as error:
                _log.error("texts in %r: cannot be loaded, so pages are in English: %s", language, error)
                break
    return ENGLISH


@cache
def load(language: str) -> Texts:
    """Return the texts in *language*, from their file at the first call. Raise OSError or ValueError if that fails."""
    texts = json.loads(files(__name__).joinpath(f"{language}.json").read_bytes())
    return Texts(language, {**(ENGLISH._texts if language != "en" else {}), **texts})


# Loaded with the module, because the exceptions have English texts.
ENGLISH = load("en")
