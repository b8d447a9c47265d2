"""The description of a provider, under the name that the modules of this package use.

It is defined in :mod:`wsgi_oauth.config.provider`, because :class:`wsgi_oauth.Config` accepts one.
"""

from ..config.provider import (
    END_SESSION_PARAMETERS,
    LOG_IN_AGAIN,
    SELECT_ACCOUNT,
    TENANT,
    TENANT_ID,
    EmailsDocument,
    GroupsDocument,
    Provider,
    UserDocument,
)

__all__ = [
    "END_SESSION_PARAMETERS",
    "LOG_IN_AGAIN",
    "SELECT_ACCOUNT",
    "TENANT",
    "TENANT_ID",
    "EmailsDocument",
    "GroupsDocument",
    "Provider",
    "UserDocument",
]
