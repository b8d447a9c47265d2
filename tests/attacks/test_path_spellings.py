"""Other spellings: a path for which the gate finds no rule, and which the application reads as a restricted page.

Servers, frameworks, databases and file systems disagree about spellings. The victim here is an application with a page
for administrators at `/admin`. The attacker is an ordinary user of it.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from conftest import HTML, Guest, send
from hypothesis import assume, given
from hypothesis import strategies as st
from werkzeug import Request, Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.utils import secure_filename

from wsgi_oauth import LoginRequired
from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.gate.paths import PathRules, PublicPaths, RestrictedPaths, SignOutPaths

MakeGate = Callable[..., LoginRequired]
_ROUTES = Map([Rule("/admin", endpoint="secret"), Rule("/admin/<path:rest>", endpoint="secret")])


def pages(environ: Any, start_response: Any) -> Any:
    """Serve the restricted page at the paths that Werkzeug, and so Flask, reads as ``/admin``."""
    try:
        endpoint, _ = _ROUTES.bind_to_environ(environ).match()
        text = str(endpoint)
    except HTTPException:
        text = f"page at {Request(environ).path}"
    return Response(text)(environ, start_response)


def _upper_case(path: str) -> bool:
    return path.strip().strip("/").partition("/")[0].strip().upper() == "ADMIN"


def _regular_expression(path: str) -> bool:
    return re.match(r"/admin(/|$)", path, re.IGNORECASE) is not None


def _collation(path: str) -> bool:
    letters = "".join(each for each in unicodedata.normalize("NFD", path) if unicodedata.category(each) != "Mn")
    return _regular_expression(letters)


def _windows(path: str) -> bool:
    return path.split("/")[1].partition(":")[0].rstrip(" .").upper() == "ADMIN"


def _turbogears(path: str) -> bool:
    return path.split("/")[1].partition(".")[0] == "admin"


def _pyramid(path: str) -> bool:
    return path.split("/")[1].removeprefix("@@") == "admin"


# Each function returns whether a kind of application reads a path as `/admin`.
READINGS = [_upper_case, _regular_expression, _collation, _windows, _turbogears, _pyramid]

_PARTS = st.sampled_from(
    [
        *"/adminADMIN.: ~1+\\\u0131\u0130\u017f\u212a\u00e1\u0301\u00ad\u3000\x85\u2025\uff0f\uff41\u2170",
        *("admin", "::$DATA", "//", "..", "%61", ";x", "@@", ".x"),
    ]
)
_PATHS = st.lists(_PARTS, min_size=1, max_size=8).map(lambda parts: f"/{''.join(parts)}") | st.tuples(
    st.lists(_PARTS, max_size=2), st.sampled_from(["admin", "adm\u0131n", "Admin"]), st.lists(_PARTS, max_size=2)
).map(lambda parts: f"/{''.join(parts[0])}{parts[1]}{''.join(parts[2])}")


class TestSpellings:
    """S73"""

    @given(_PATHS)
    def test_no_application_reads_a_restricted_page_from_an_unrestricted_path(self, path: str):
        path_info = path.encode().decode("latin-1")
        assume(
            not PathRules(sign_in="/auth", public=(), restricted=["/admin"], sign_out=()).find("", path_info).restricted
        )
        assert [reading.__name__ for reading in READINGS if reading(path)] == []
        assert b"secret" not in send(pages, path_info).data

    @given(_PATHS | st.sampled_from(["", "/", "/leave/", "/LEAVE", "/adieu", "/static/a.css", "/adm\u0131n/static/a"]))
    @pytest.mark.parametrize("paths", [("/admin",), ("/", "/adm\u00efn/static"), ("/admin/static", "/admin")])
    def test_no_rule_is_overlooked_in_a_plain_path(self, paths: tuple[str, ...], path: str):
        public, sign_out, path_info = ["/", "/static"], ["/leave", "/Adi\u00e9u"], path.encode().decode("latin-1")
        rule = PathRules(sign_in="/auth", public=public, restricted=paths, sign_out=sign_out).find("", path_info)
        assert [*rule.restricted] == RestrictedPaths(paths).find("", path_info)
        assert rule.signs_out == SignOutPaths(sign_out).include(path_info)
        assert not rule.is_public or PublicPaths(public).find("", path_info)
        everything = PathRules(sign_in="/auth", public=["/*"], restricted=paths, sign_out=sign_out)
        is_unrestricted = not rule.restricted and PublicPaths(["/*"]).find("", path_info) == ""
        assert everything.find("", path_info).is_public == is_unrestricted

    @pytest.mark.parametrize(
        "path",
        [
            *("/adm\u0131n", "/\u212abc/../admin", "/admin\x85", "/ admin", "/\u3000admin", "/\u00e1dmin"),
            *(
                "/admin::$DATA",
                "/admin:x/y",
                "/ADMIN~1/x",
                "/admin \x85",
                "/x/..\uff1by/admin",
                "/\uff0561dmin",
                "/\uff0fadmin",
                "/x/y\uff3c..\uff3c..\uff3cadmin",
            ),
        ],
    )
    def test_a_similar_path_is_restricted(self, path: str):
        restricted = RestrictedPaths(["/admin", "/private"]).find("", path.encode().decode("latin-1"))
        assert "/admin" in restricted

    @pytest.mark.parametrize(
        "path",
        [
            *("/wiki/\u00dcberblick", "/\u00dcberblick", "/\u65e5\u672c", "/wiki/Mr.", "/Special:Log", "/~alice"),
            *("/a b", "/@alice", "/administer", "/wiki/adm\u0131n", "/\u0430\u0431\u0432", "/2024\u5e74"),
        ],
    )
    def test_an_ordinary_path_is_not(self, path: str):
        assert RestrictedPaths(["/admin"]).find("", path.encode().decode("latin-1")) == []

    @pytest.mark.parametrize(
        "path",
        [
            *(
                "/admin-area",
                "/admin.area",
                "/admin!area/x",
                "/Admin area",
                "/@@admin_area",
                *("/admin.area.json", "/admin:area.x"),
                "/admin~area",
            ),
            *(
                "/++view++admin_area",
                "/++api++/admin-area",
                "/admin+area.a.b",
                *("/admin.area.json", "/admin:area.x"),
                "/admin_area.json/x",
                "/adm\u0131n area",
            ),
        ],
    )
    def test_a_name_with_other_punctuation_or_an_extension_is_restricted(self, path: str):
        """CherryPy reads punctuation as `_`, TurboGears ignores extensions, and Pyramid and Zope ignore `@@`."""
        paths = PathRules(sign_in="/auth", public=["/*"], restricted=["/admin_area", "/admin"], sign_out=())
        rule = paths.find("", path.encode().decode("latin-1"))
        assert "/admin_area" in rule.restricted
        assert not rule.is_public

    @pytest.mark.parametrize(
        "path",
        [
            *("/_admin_area", "/.admin_area/x", "/admin_area-", "/-Admin_Area.json", "/a$dmin_area", "/admin_!area"),
            *(
                "/-/admin_area",
                "/_.x/admin_area",
                "/--/_./admin-area",
                "/admin__area",
                "/[admin_area]",
                "/admin_area.../x",
            ),
        ],
    )
    def test_a_name_with_more_punctuation_is_restricted(self, path: str):
        """`secure_filename` of Werkzeug removes punctuation at both ends, and Otter Wiki also inside a name."""
        paths = PathRules(sign_in="/auth", public=["/*"], restricted=["/admin_area"], sign_out=())
        assert paths.find("", path) == ((False, False, ("/admin_area",), False))

    @pytest.mark.parametrize("name", ["\u65e5/plan.txt", "\u65e5/_/\u672c/plan.txt", "\u65e5/_plan\u672c.txt"])
    def test_a_name_without_ascii_before_a_name_is_no_other_path(self, name: str):
        """`secure_filename` of Werkzeug removes it if the application passes a path with slashes."""
        assert secure_filename(name) == "plan.txt"
        paths = PathRules(sign_in="/auth", public=[], restricted=["/files/plan.txt"], sign_out=())
        assert paths.find("", f"/files/{name}".encode().decode("latin-1")).restricted == ("/files/plan.txt",)

    @pytest.mark.parametrize("path", ["/-/admin", "/-/x", "/--/x"])
    def test_a_name_without_letters_can_have_a_rule(self, path: str):
        assert "/-" in RestrictedPaths(["/", "/-", "/-/admin/x"]).find("", path)
        assert RestrictedPaths(["/", "/x", "/-"]).find("", "/x/-/a") == ["/x"]

    def test_other_punctuation_chooses_no_weaker_rule(self):
        """/admin/for_all is open to more users, and `/admin/for-all` may be another page of /admin."""
        paths = RestrictedPaths(["/admin", "/admin/for_all"])
        assert paths.find("", "/admin/for-all") == paths.find("", "/admin/for_all.x") == ["/admin", "/admin/for_all"]
        assert paths.find("", "/admin/for_all/x") == ["/admin/for_all"]

    @pytest.mark.parametrize(
        "number", ["042", "00042", "\u0664\u0662", "\uff14\u0662", "0_4_2", "+042", "4\u0662", "042.json", "\u0660-42"]
    )
    def test_another_spelling_of_a_number_is_restricted(self, number: str):
        """Python's `int`, and so the converters of Werkzeug, Falcon and Bottle, reads each of them as 42."""
        paths = PathRules(sign_in="/auth", public=["/*"], restricted=["/wiki/42", "/p-07/x"], sign_out=())
        assert paths.find("", f"/wiki/{number}/x".encode().decode("latin-1")).restricted == ("/wiki/42",)
        assert paths.find("", "/p-7/x").restricted == paths.find("", "/p-0007/x").restricted == ("/p-07/x",)
        assert paths.find("", "/wiki/402").restricted == paths.find("", "/wiki/420").restricted == ()

    @pytest.mark.parametrize(
        "change",
        [str.upper, lambda text: text.replace("-", ""), "{{{}}}".format, "urn:uuid:{}".format, "uurn:uid:{}".format],
    )
    def test_another_spelling_of_a_uuid_is_restricted(self, change: Callable[[str], str]):
        """Python's `UUID`, and so the converter of Falcon and a field of Django, reads each of them as the same."""
        identifier = "123e4567-e89b-12d3-a456-426614174000"
        assert UUID(change(identifier)) == UUID(identifier)
        paths = PathRules(sign_in="/auth", public=["/*"], restricted=[f"/wiki/{identifier}"], sign_out=())
        assert paths.find("", f"/wiki/{change(identifier)}").restricted == (f"/wiki/{identifier}",)

    @pytest.mark.parametrize("path", ["/admin/ME", "/Admin/me", "/admin/me\u200b", "/admin/\uff2de/x"])
    def test_letter_case_and_invisible_characters_choose_no_weaker_rule(self, path: str):
        """/admin/me is open to more users, and `/admin/ME` may be the page of another user."""
        found = RestrictedPaths(["/admin", "/admin/me"]).find("", path.encode().decode("latin-1"))
        assert sorted(found) == ["/admin", "/admin/me"]
        assert RestrictedPaths(["/Admin", "/Admin/Me"]).find("", "/Admin/Me/x") == ["/Admin/Me"]

    @pytest.mark.parametrize(
        "path", ["/admin_areas", "/admin/area", "/admin_are", "/x/@@admin_area", "/-/x/admin_area"]
    )
    def test_a_name_with_other_letters_is_not_restricted(self, path: str):
        assert RestrictedPaths(["/admin_area"]).find("", path) == []

    def test_a_character_that_may_stand_for_letters_chooses_no_weaker_rule(self):
        """/admin/reports is open to more users, and `/admin/rep\u0131rts` may be another page of /admin."""
        paths = RestrictedPaths(["/admin", "/admin/reports"])
        assert paths.find("", "/admin/rep\u0131rts".encode().decode("latin-1")) == ["/admin", "/admin/reports"]

    @pytest.mark.parametrize("character", ["\x80", "\x85", "\u1680", "\u2028", "\u3000", "\u00ad", "\u200b", "\u0301"])
    def test_a_space_or_an_invisible_character_in_a_name_without_ascii_makes_no_difference(self, character: str):
        name = "/\u0434\u043e\u043a\u0443\u043c"
        path = f"{name[:3]}{character}{name[3:]}/x"
        assert RestrictedPaths([name]).find("", path.encode().decode("latin-1")) == [name]

    def test_a_public_path_ends_where_the_application_may_leave_it(self):
        paths = PublicPaths(["/static"])
        for rest in ("\u2025/admin", "a\uff0f..\uff0f..\uff0fadmin", "\uff0e\uff0e/admin"):
            assert paths.find("", f"/static/{rest}".encode().decode("latin-1")) is None
        assert paths.find("", "/static/\u65e5\u672c\u2026.png".encode().decode("latin-1")) == "/static"

    @pytest.mark.parametrize(
        "letters", ["\ufdfa", "\u0315\u0300"], ids=["a ligature of 18 letters", "accents in the wrong order"]
    )
    def test_a_path_that_takes_long_to_normalize_costs_little(self, letters: str):
        """Otherwise one request of an anonymous client could occupy the worker for seconds."""
        paths = PathRules(
            sign_in="/auth", public=["/*"], restricted=[f"/admin{n}" for n in range(20)], sign_out=["/bye"]
        )
        normalized, long = (f"/a{letters * (length // len(letters.encode()))}" for length in (1900, 60_000))
        started = time.process_time()
        paths.find("", normalized.encode().decode("latin-1"))
        assert not paths.find("", long.encode().decode("latin-1")).is_public
        assert time.process_time() - started < 0.2

    def test_letters_of_several_bytes_do_not_make_a_public_path_longer(self, make_gate: MakeGate):
        """Otherwise the longer public path would decide, and the restricted one below it would be public."""
        gate = make_gate(
            public=["/\u0434\u043e\u043a\u0443\u043c\u0435\u043d\u0442\u044b"],
            allow={"/\u0434\u043e\u043a\u0443\u043c\u0435\u043d\u0442\u044b/\u0430": ("id:1",)},
        )
        path = "/\u0434\u043e\u043a\u0443\u043c\u0435\u043d\u0442\u044b".encode().decode("latin-1")
        assert send(gate, path, headers=HTML).status_code == 200
        assert send(gate, path + "/\xd0\xb0", headers=HTML).status_code == 302


class TestScriptName:
    """S73: the part of a path that the server has removed."""

    @pytest.mark.parametrize(
        ("script_name", "path"),
        [
            ("/app", "admin"),
            ("/", "admin"),
            ("/admin", "/users"),
            ("/admin", ""),
            ("/a\xff", "/x"),
            ("/x/", "/page"),
            ("/", "\xc2\x85/admin"),
        ],
    )
    def test_does_not_hide_a_restricted_path(
        self, make_gate: MakeGate, provider: LocalProvider, script_name: str, path: str
    ):
        """With SCRIPT_NAME=/app, gunicorn passes `/appadmin` on as `admin`, which Werkzeug reads as `/admin`."""
        guest = Guest(make_gate(allow={"/admin": ("id:1",)}), provider)
        guest.sign_in()
        headers = {**HTML, "Cookie": f"wsgi_oauth={guest.cookie}"}
        assert send(guest.gate, path, headers=headers, SCRIPT_NAME=script_name).status_code == 403
        assert send(guest.gate, "/page", headers=headers, SCRIPT_NAME="/app").status_code == 200

    def test_does_not_make_a_restricted_path_public(self):
        """Applications that append PATH_INFO to SCRIPT_NAME read the page as one below /admin."""
        rules = PathRules(sign_in="/auth", public=["/static/css"], restricted=["/admin", "/static"], sign_out=())
        assert not rules.find("/admin", "/static/css/x").is_public
        assert rules.find("/app", "/static/css/x") == (False, True, ("/static",), False)
