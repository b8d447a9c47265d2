"""The message catalogue and its languages. test_pages.py tests the pages."""

from __future__ import annotations

import json
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug import Request
from werkzeug.test import EnvironBuilder

from wsgi_oauth import texts

FILES = {path.stem: path for path in Path(texts.__file__).parent.glob("*.json")}
CATALOGUE = {language: json.loads(path.read_text("utf-8")) for language, path in FILES.items()}
TRANSLATIONS = sorted(CATALOGUE.keys() - {"en"})


def choose(accept_language: str) -> str:
    """Return the language that a browser with this header gets."""
    return texts.texts_for(Request(EnvironBuilder(headers={"Accept-Language": accept_language}).get_environ())).language


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


class TestCatalogue:
    def test_has_one_file_for_each_language(self):
        assert sorted(FILES) == sorted(texts.LANGUAGES)

    @pytest.mark.parametrize("language", TRANSLATIONS)
    def test_has_the_same_keys_in_each_language(self, language: str):
        assert CATALOGUE[language].keys() == CATALOGUE["en"].keys()

    @pytest.mark.parametrize("language", TRANSLATIONS)
    def test_has_the_same_placeholders_in_each_language(self, language: str):
        translated = {key: placeholders(text) for key, text in CATALOGUE[language].items()}
        assert translated == {key: placeholders(text) for key, text in CATALOGUE["en"].items()}

    @pytest.mark.parametrize("language", CATALOGUE)
    def test_is_sorted_by_key(self, language: str):
        assert list(CATALOGUE[language]) == sorted(CATALOGUE[language])


class TestLanguage:
    @pytest.mark.parametrize(
        ("accept_language", "language"),
        [
            ("de", "de"),
            ("FR", "fr"),
            ("de-AT", "de"),
            ("es-419, en;q=0.5", "es"),
            ("en;q=0.8, fr;q=0.9", "fr"),
            ("de;q=0, fr;q=0.1", "fr"),
            ("nl, pt-BR;q=0.9, es;q=0.8, en;q=0.7", "es"),
            ("*, de;q=0.5", "de"),
        ],
    )
    def test_is_the_preferred_one_of_the_browser(self, accept_language: str, language: str):
        """RFC 9110 12.5.4, RFC 4647 3.4"""
        assert choose(accept_language) == language

    @pytest.mark.parametrize("accept_language", ["", "nl", "*", "de;q=0", "de;q=x", ";", ",,=", "\xff"])
    def test_is_english_if_no_other_one_is_acceptable(self, accept_language: str):
        assert choose(accept_language) == "en"

    @given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=200))
    def test_header_is_never_an_error(self, accept_language: str):
        assert choose(accept_language) in texts.LANGUAGES
