"""The texts of pages in several languages: the message catalogue, and which language a browser gets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from conftest import HTML, JSON, Browser
from hypothesis import given
from hypothesis import strategies as st
from werkzeug import Request
from werkzeug.test import EnvironBuilder

import wsgi_oauth
from wsgi_oauth import RequestHandler, errors, texts

PACKAGE = Path(wsgi_oauth.__file__).parent
TEMPLATES = sorted(PACKAGE.glob("web/templates/*.html"))
FILES = {path.stem: path for path in Path(texts.__file__).parent.glob("*.json")}
CATALOGUE = {language: json.loads(path.read_text("utf-8")) for language, path in FILES.items()}
TRANSLATIONS = sorted(CATALOGUE.keys() - {"en"})


def choose(accept_language: str) -> str:
    """Return the language that a browser with this header gets."""
    return texts.texts_for(Request(EnvironBuilder(headers={"Accept-Language": accept_language}).get_environ())).language


ERRORS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.Error)]


def find_used_keys() -> Iterator[str]:
    """Find the keys in the code and in the templates. Some are put together: of errors, buttons and durations."""
    yield from {f"{error.cause}.{name}" for error in ERRORS for name in ("title", "text", "advice")} & CATALOGUE[
        "en"
    ].keys()
    for path in [*PACKAGE.rglob("*.py"), *TEMPLATES]:
        source = path.read_text("utf-8")
        yield from re.findall(r'\b(?:english|t)\(\s*"([\w.]+)"', source)
        kinds, words = ("action", "advice", "side"), re.findall(r'"(\w+)"', source)
        yield from {f"{kind}.{word}" for kind in kinds for word in words} & CATALOGUE["en"].keys()
    yield from [f"duration.{unit}{plural}" for unit in ("day", "hour", "minute", "second") for plural in ("", "s")]


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

    def test_has_every_key_that_is_used_and_no_other(self):
        assert set(find_used_keys()) == CATALOGUE["en"].keys()

    @pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
    def test_has_all_words_of_the_templates(self, template: Path):
        """Command lines and names of programs are the same in all languages. A block of one word is a class."""
        code = r"(?s)<pre.*?</pre>|\{% block \w+ %\}[a-z]+\{% endblock %\}|\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}"
        source = re.sub(code, "", template.read_text("utf-8"))
        attributes = re.findall(r'(?:alt|aria-label|placeholder|title)="([^"]*)"', source)
        words = re.findall(r"[^\W\d_]{2,}", re.sub(r"(?s)<.*?>", " ", source) + " ".join(attributes))
        assert set(words) <= {"curl", "pip", "git"}

    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.cause)
    def test_has_the_texts_of_every_error(self, error: type[errors.Error]):
        shown = (error.title, error.text, error.advice, error.side)
        assert all(isinstance(text, texts.Text) for text in shown)
        assert not error.action or f"action.{error.action}" in CATALOGUE["en"]

    def test_has_the_texts_of_an_error_under_its_cause(self):
        shown = {f"bad_host.{name}": getattr(errors.BadHost, name) for name in ("title", "text", "advice")}
        assert shown == {key: text for key, text in CATALOGUE["en"].items() if key.startswith("bad_host.")}

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
            ("de_AT", "de"),
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


class Quota(errors.UserError):
    """An error of an application, which is in no catalogue."""

    title = "The disk quota is exhausted"


REFUSED = errors.NotAllowed("an id", "<b>Zoë</b> {0}", unread=("groups (scope read:org)", "email addresses"))


class Raising(RequestHandler):
    route = "/raising/<name>"

    def get(self, request, name):
        raise {"quota": Quota(), "refused": REFUSED}[name]


@pytest.fixture
def browser(make_browser: Callable[..., Browser]) -> Browser:
    return make_browser(handlers=(Raising,))


def open_page(browser: Browser, path: str, language: str) -> Any:
    return browser.get(path, headers={**HTML, "Accept-Language": language})


class TestPage:
    @pytest.mark.parametrize("language", CATALOGUE)
    def test_is_in_the_language_of_the_browser(self, browser: Browser, language: str):
        page = open_page(browser, "/callback?code=x&state=y", language)
        assert (page.html.html["lang"], page.headers["Content-Language"]) == (language, language)
        expected = CATALOGUE[language]
        assert page.html.h1.text == expected["no_login_in_progress.title"]
        assert page.html.select_one(".actions a").text == expected["action.sign_in"]
        for key in ("no_login_in_progress.text", "no_login_in_progress.advice"):
            assert expected[key] in page.html.main.text
        assert expected["side.request"] in page.html.footer.text

    @pytest.mark.parametrize("language", TRANSLATIONS)
    def test_about_an_http_error_is_translated(self, browser: Browser, language: str):
        assert open_page(browser, "/nothing", language).html.h1.text == CATALOGUE[language]["not_found.title"]

    @pytest.mark.parametrize("language", TRANSLATIONS)
    def test_of_the_sign_out_is_translated(self, browser: Browser, language: str):
        browser.sign_in()
        page = open_page(browser, "/logout", language)
        assert page.html.h1.text == CATALOGUE[language]["sign_out.title"]
        assert page.html.button.text == CATALOGUE[language]["action.sign_out"]

    def test_of_access_tokens_is_translated(self, make_browser: Callable[..., Browser]):
        browser = make_browser(TOKENS="yes")
        browser.sign_in()
        form = open_page(browser, "/tokens", "fr").form
        assert [text for _, _, text in form["lifetime"].options][:2] == ["1 jour", "7 jours"]
        form["name"] = "sauvegarde"
        created = form.submit(headers={**HTML, "Accept-Language": "fr", "Sec-Fetch-Site": "same-origin"}).html.main
        assert "Copiez-le maintenant." in created.text
        assert re.search(r"Créé le \d{4}-\d\d-\d\d \d\d:\d\d UTC · Jamais utilisé", created.text)
        assert created.find("button", attrs={"name": "revoke"})["aria-label"] == "Révoquer sauvegarde"

    @pytest.mark.parametrize("lifetime", ["366d", "soon"])
    def test_about_a_refused_lifetime_is_translated(self, make_browser: Callable[..., Browser], lifetime: str):
        browser = make_browser(TOKENS="yes", SESSION_LIFETIME="12h")
        browser.sign_in()
        headers = {**HTML, "Accept-Language": "de", "Sec-Fetch-Site": "same-origin"}
        page = browser.post("/tokens", headers, params={"name": "x", "lifetime": lifetime})
        expected = CATALOGUE["de"]["bad_token_request.lifetime"].format(maximum="365 Tage")
        assert expected in page.html.main.text

    def test_shows_the_description_of_an_http_error(self, make_browser: Callable[..., Browser]):
        browser = make_browser(TOKENS="yes")
        browser.sign_in()
        headers = {**HTML, "Accept-Language": "es", "Sec-Fetch-Site": "same-origin"}
        page = browser.post("/tokens", headers, params={"revoke": "unknown"})
        assert CATALOGUE["es"]["tokens.unknown"] in page.html.main.text

    def test_shows_a_value_in_a_translation_as_plain_text(self, browser: Browser):
        page = open_page(browser, "/raising/refused", "de")
        assert "Sie haben sich als <b>Zoë</b> {0} angemeldet" in page.html.main.text

    def test_translates_the_texts_in_a_translation(self, browser: Browser):
        page = open_page(browser, "/raising/refused", "de")
        assert "Ihre Gruppen (Scope read:org) und E-Mail-Adressen zu lesen" in page.html.main.text

    def test_shows_the_text_of_an_application_unchanged(self, browser: Browser):
        page = open_page(browser, "/raising/quota", "de")
        assert page.html.h1.text == "The disk quota is exhausted"
        assert page.html.find("p", string=re.compile("Diese Anwendung versteht die Anfrage nicht"))

    def test_is_in_english_if_a_language_cannot_be_loaded(
        self, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        def load(language: str) -> texts.Texts:
            raise OSError("no such file")

        monkeypatch.setattr(texts, "load", load)
        page = open_page(browser, "/nothing", "de")
        assert (page.html.html["lang"], page.html.h1.text) == ("en", "This page does not exist")
        assert "texts in 'de': cannot be loaded, so pages are in English: no such file" in caplog.text


def test_own_template_uses_the_texts_in_the_language_of_the_browser(
    make_browser: Callable[..., Browser], tmp_path: Path
):
    (tmp_path / "error.html").write_text('{{ language }}: {{ t("action.open_page") }}')
    page = open_page(make_browser(TEMPLATES=str(tmp_path)), "/nothing", "fr")
    assert page.text == "fr: Ouvrir la page"


def test_program_gets_english(browser: Browser):
    answer = browser.get("/nothing", headers={**JSON, "Accept-Language": "de"})
    assert answer.json["title"] == "This page does not exist"
    assert "Content-Language" not in answer.headers


def test_log_is_in_english(browser: Browser, caplog: pytest.LogCaptureFixture):
    open_page(browser, "/raising/refused", "de")
    assert "the access rules exclude an id" in caplog.text
