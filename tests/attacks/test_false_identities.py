"""False identities: the attacker signs in with an honest account and combines claims that belong to different users.

A client builds the identity from two documents, the ID token and the user document. The attacker controls some claims
of the own account, and may swap the access token or sign in from another tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from conftest import Browser, stored_sessions
from openid import Issuer, config_for

from wsgi_oauth import MemoryStore, create_app
from wsgi_oauth.config.provider import Provider, UserDocument
from wsgi_oauth.oauth.claims import find_value

from .lesson import guarded_by

#: Signs the attacker in under access rules, and returns the stored identity; None if the sign-in fails.
SignIn = Callable[..., Any]


@pytest.fixture
def issuer(issuer: Issuer) -> Issuer:
    issuer.metadata["authorization_response_iss_parameter_supported"] = None
    return issuer


@pytest.fixture
def sign_in(issuer: Issuer) -> SignIn:
    def sign_in(**settings: str) -> Any:
        store = MemoryStore()
        config = config_for(issuer, SCOPE="openid profile email", **settings)
        browser = Browser(create_app(config, store=store), issuer)
        browser.get(browser.callback_url().partition("&iss=")[0])
        browser.profile()
        identities = [session.get("oauth_identity") for session in stored_sessions(store)]
        return next((identity for identity in identities if identity), None)

    return sign_in


def look_at_each_claim_alone(email: str | None, sources: Any, paths: UserDocument) -> bool:
    return any(find_value(source, paths.email_verified) is True for source in sources)


@guarded_by({"wsgi_oauth.oauth.identity.is_verified": look_at_each_claim_alone})
def test_own_verified_address_vouches_for_another_one(issuer: Issuer, sign_in: SignIn) -> Any:
    """S30: `email_verified` of the ID token describes the address in the ID token only."""
    issuer.claims |= {"email": "mallory@evil.example", "email_verified": True}
    issuer.user = {"sub": "mona", "email": "boss@example.com"}
    return sign_in(ALLOW="email:boss@example.com")


def ignore_the_subject(document: Mapping[str, Any], id_token: str, paths: str) -> None:
    """Accept the user document of another user."""


@guarded_by({"wsgi_oauth.oauth.client.check_userinfo": ignore_the_subject})
def test_swapped_user_document_with_a_subject_of_its_own(issuer: Issuer, sign_in: SignIn) -> Any:
    """S30, OpenID Connect Core 5.3.2: a configured subject does not replace the comparison of `sub`."""
    issuer.claims["sub"] = "mallory"
    issuer.user = {"sub": "mona", "employee": "1"}
    return sign_in(SUBJECT_CLAIM="employee")


@guarded_by({"wsgi_oauth.oauth.client.check_userinfo": ignore_the_subject})
def test_swapped_user_document_with_a_wrapped_subject(issuer: Issuer, sign_in: SignIn) -> Any:
    """S30: the subject in the document counts before one in an object of it."""
    issuer.claims |= {"sub": "mallory", "data": {"sub": "mona"}}
    issuer.user = {"sub": "mona", "data": {"sub": "mona"}}
    return sign_in(SUBJECT_CLAIM="data.sub")


def read_as_a_number(value: Any) -> Any:
    return str(int(value)) if str(value).isdecimal() else value


@guarded_by(
    {
        "wsgi_oauth.oauth.id_token.convert_number": read_as_a_number,
        "wsgi_oauth.oauth.identity.convert_number": read_as_a_number,
    }
)
def test_subject_that_is_the_same_number_in_another_spelling(issuer: Issuer, sign_in: SignIn) -> Any:
    """S30: the number 35 equals only the string "35"."""
    issuer.claims["sub"] = "0035"
    issuer.user = {"sub": 35}
    return sign_in()


def leave_the_tenant_out(sources: Any, provider: Provider) -> Any:
    document, _ = sources
    return document[provider.user.subject]


@guarded_by({"wsgi_oauth.oauth.identity.find_subject": leave_the_tenant_out})
def test_same_subject_in_another_tenant(issuer: Issuer, sign_in: SignIn) -> bool:
    """S30: the administrators of a tenant choose the claims of its users, for example their employee ids."""
    issuer.routes["/common/v2.0/.well-known/openid-configuration"] = issuer.routes["/.well-known/openid-configuration"]
    issuer.metadata["issuer"] = f"{issuer.url}/{{tenantid}}/v2.0"
    issuer.user = {"sub": "mona", "employee": "1"}
    subjects = []
    for tenant in ("aaaa", "bbbb"):
        issuer.claims |= {"tid": tenant, "iss": f"{issuer.url}/{tenant}/v2.0"}
        subjects.append(sign_in(PROVIDER=f"{issuer.url}/common/v2.0", SUBJECT_CLAIM="employee")["subject"])
    return subjects[0] == subjects[1]
