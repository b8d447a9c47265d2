"""URLs, validator and middleware for django_server.py, which Django imports after its setup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from oauth2_provider.oauth2_validators import OAuth2Validator

urlpatterns = [path("o/", include("oauth2_provider.urls", namespace="oauth2_provider"))]


class Validator(OAuth2Validator):
    def get_additional_claims(self, request: Any) -> dict[str, str]:
        user = request.user
        return {"preferred_username": user.username, "name": user.get_full_name(), "email": user.email}


def signed_in(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware that treats every browser as signed in as the only user."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.user = get_user_model().objects.get()
        return get_response(request)

    return middleware
