"""Lists of the user's email addresses, organizations, teams and groups, read page by page."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import requests

from .. import errors
from ..config.provider import EmailsDocument, GroupsDocument, Provider
from ..urls import have_same_origin
from .access import Rule
from .claims import find_value
from .client import OAuth2Session
from .identity import Identity, with_emails, with_groups
from .resource import read_resource

_log = logging.getLogger(__name__)

MAX_PAGES = 50  # most providers send 100 items on a page, so these are more items than a session can hold


def with_scopes_for(rules: Collection[Rule], provider: Provider) -> Provider:
    """Return *provider* with the scopes of the lists that *rules* need."""
    needed = [scope for each in provider.lists if is_needed(each, rules) for scope in each.scope.split()]
    return provider._replace(scope=" ".join(dict.fromkeys([*provider.scope.split(), *needed]))) if needed else provider


def is_needed(document: EmailsDocument | GroupsDocument, rules: Collection[Rule]) -> bool:
    """Return whether one of *rules* may match an item of the list."""
    if isinstance(document, EmailsDocument):
        return any(rule.kind == "email" for rule in rules)
    # The items of a list with a parent are teams of organizations: group:octo-org/team.
    return any(rule.kind in {"group", "org"} and (not document.parent or "/" in rule.value) for rule in rules)


def with_lists(
    identity: Identity, client: OAuth2Session, rules: Collection[Rule], *, timeout: float, complete: bool = False
) -> Identity:
    """Return *identity* with the addresses and groups of the provider's lists.

    A list is read if one of *rules* needs it or the token's scope permits it. If the provider forbids it, the identity
    names the list in ``unread``.

    :param timeout: seconds for all pages of one list.
    :param complete: whether the failure of a list is an error even if no rule needs the list. A recheck sets it,
        because its result replaces a complete identity.
    """
    for each in _find_readable(identity, client, rules):
        needed = is_needed(each, rules)
        name = "email addresses" if isinstance(each, EmailsDocument) else "groups"
        try:
            items = fetch_items(client, each, timeout=timeout, complete=complete)
        except errors.ProviderForbids as error:
            _log.log(logging.WARNING if needed else logging.INFO, "the list of %s was not read: %s", name, error)
            if needed:
                unread = f"{name} (scope {each.scope})" if each.scope else name
                identity = replace(identity, unread=tuple(dict.fromkeys([*identity.unread, unread])))
        except (errors.ProviderError, errors.TokenRejected) as error:
            if not (needed or complete):
                _log.warning("the list of %s could not be read: %s", name, error)
            elif isinstance(error, errors.ProviderError):
                error.detail = f"the list of {name} could not be read: {error.detail}"
                raise
            else:
                raise errors.ProviderError(f"the list of {name} could not be read: {error}") from error
        else:
            if isinstance(each, EmailsDocument):
                identity = with_emails(identity, items, each, trusted=client.provider.trusts_emails)
            else:
                identity = with_groups(identity, items, each)
    return identity


def _find_readable(
    identity: Identity, client: OAuth2Session, rules: Collection[Rule]
) -> list[EmailsDocument | GroupsDocument]:
    """Return the lists that *rules* need, and the other lists that the scope of the token permits to read."""
    granted = client.token.get("scope", "").split()
    # A list that a rule needs is read even without its scope: one can include another (`user` has `user:email`).
    all_lists = client.provider.lists
    lists = [each for each in all_lists if is_needed(each, rules) or set(each.scope.split()).issubset(granted)]
    for_overage = [each for each in lists if isinstance(each, GroupsDocument) and each.for_overage]
    if not _has_overage(identity):
        return [each for each in lists if each not in for_overage]
    if not for_overage:
        _log.warning(
            "%s has too many groups for the ID token, and they are read from no other document; let the provider send "
            "fewer, such as those that are assigned to this application",
            identity.id,
        )
    return lists


def _has_overage(identity: Identity) -> bool:
    """Return whether the ID token refers to another document for the user's groups (OpenID Connect Core 5.6.2).

    Microsoft calls it a *groups overage*: the user has more groups than fit into the token. The document's address in
    the token is not used, because the access token must not be sent to it.
    """
    claim_names = identity.claims.get("_claim_names")
    is_elsewhere = isinstance(claim_names, Mapping) and "groups" in claim_names
    return is_elsewhere or identity.claims.get("hasgroups") in (True, "true")


def fetch_items(
    client: OAuth2Session, document: EmailsDocument | GroupsDocument, *, timeout: float, complete: bool = False
) -> list[Any]:
    """Return the items of all pages. After MAX_PAGES pages or *timeout* seconds, the rest is left out with a log line.

    :param complete: whether a timeout is an error.
    :raises errors.ProviderForbids: for status 403, and for 404, by which some providers hide a list.
    :raises errors.Error: for every other failure, as :func:`.read_resource` does.
    """
    deadline = time.monotonic() + timeout
    items: list[Any] = []
    url, pages = document.url, 0
    while url:
        try:
            left = max(0.001, deadline - time.monotonic())
            response = client.get(url, headers={"Accept": "application/json"}, timeout=left)
        except errors.ProviderTimeout:
            if complete or not pages:
                raise
            return _leave_out_rest(items, f"{timeout:g} seconds are over")
        if response.status_code == 404:
            raise errors.ProviderForbids("the provider answered a request for a resource with status 404")
        page = read_resource(response, object, client.secrets)
        found = find_value(page, document.items) if document.items else page
        if not isinstance(found, list):
            raise errors.ProviderError(f"the document contains no list at {document.items!a}")
        items += found
        pages += 1
        kind, _, omitted = response.headers.get("X-GitHub-SSO", "").partition("; ")
        if kind == "partial-results":
            reason = "the user has to authorize this application with SAML single sign-on at GitHub for"
            _leave_out_rest(items, f"{reason} {omitted!a:.200}")
        try:
            url = _find_next_page(response, page, document)
            # Another origin must not receive the token.
            if url and not have_same_origin(url, document.url):
                return _leave_out_rest(items, "the next page has another origin")
        except ValueError:
            return _leave_out_rest(items, "the next page has an invalid URL")
        if url and pages >= MAX_PAGES:
            return _leave_out_rest(items, f"{MAX_PAGES} pages were read")
    return items


def _leave_out_rest(items: list[Any], reason: str) -> list[Any]:
    text = "a list of addresses or groups is incomplete: %s, with %d items; the rest is left out"
    _log.warning(text, reason, len(items))
    return items


def _find_next_page(response: requests.Response, page: Any, document: EmailsDocument | GroupsDocument) -> str:
    """Return the URL of the next page from the document or the ``Link`` header (RFC 8288 3), or an empty string."""
    following = find_value(page, document.next_page) if document.next_page else None
    if document.next_page_parameter and isinstance(following, (str, int)):
        parts = urlsplit(document.url)
        query = {**dict(parse_qsl(parts.query, keep_blank_values=True)), document.next_page_parameter: str(following)}
        return parts._replace(query=urlencode(query)).geturl()
    if not isinstance(following, str):
        links = requests.utils.parse_header_links(response.headers.get("Link", ""))
        following = next((link["url"] for link in links if "next" in link.get("rel", "").lower().split()), "")
    url = urljoin(document.url, following) if following else ""
    # A provider that does not know that its proxy terminates TLS writes http.
    secure = f"https:{url[5:]}" if url.startswith("http:") else url
    return secure if url and have_same_origin(secure, document.url) else url
