"""The session keys of a sign-in. The first two are the tutorial's."""

from __future__ import annotations

STATE = "oauth_state"  # the pending sign-ins, by state
TOKEN = "oauth_token"  # noqa: S105
PROVIDER = "oauth_provider"  # the registration (label and name) with the provider that issued the token
# {"asked": when the sign-in started, by the clock of the store; "issued": when the provider issued the ID token, by its
# own clock; "names": the names by which the provider can end the session}, times in seconds since the epoch.
PROVIDER_SESSION = "oauth_session"
