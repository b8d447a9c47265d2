"""The ten faults that the provider's pages offer to learners, each with its story.

All other faults, in :mod:`wsgi_oauth.demo.faults`, are for tests and for programs.
"""

from __future__ import annotations

from dataclasses import dataclass

from .fault_injection import Fault
from .faults import FAULTS


@dataclass(frozen=True)
class FaultStory:
    """A fault in the words of a learner.

    :param fault: the fault.
    :param title: a short name.
    :param event: the behaviour of the provider.
    :param watch: where the user sees the effect.
    :param reaction: the reaction of the application.
    :param scope: the scope without which the fault cannot happen.
    """

    fault: Fault
    title: str
    event: str
    watch: str
    reaction: str
    scope: str = ""

    @property
    def name(self) -> str:
        """The name of the fault."""
        return self.fault.name


STORIES = (
    FaultStory(
        FAULTS["token.slow"],
        "The provider is slow today",
        "The provider answers the token request after 30 seconds.",
        "After you press Allow, the browser waits for ten seconds. Then it shows an error page.",
        "The application gives up at its deadline, so a hanging provider cannot occupy it for long. The code is lost. "
        "You can try again at once.",
    ),
    FaultStory(
        FAULTS["token.503"],
        "The provider is down for maintenance",
        "The provider answers the token request with the status 503 and an HTML page.",
        "The error page says that the provider does not work at the moment, and offers to try again.",
        "The application does not repeat the request by itself, because a code can be used once. It stores nothing.",
    ),
    FaultStory(
        FAULTS["token.html_200"],
        "A web page arrives instead of the token",
        "The provider answers the token request with the status 200, which means success, but with an HTML page. "
        "Proxies and login pages of hotels do this.",
        "The status alone looks fine in the trace. Open the response and look at its content.",
        "The application accepts a token only from a JSON document of the right form. It shows an error page.",
    ),
    FaultStory(
        FAULTS["token.invalid_grant"],
        "The code has expired",
        "The provider refuses the authorization code: it is too old, was used before, or belongs to another "
        "application.",
        "The token request comes back with the error invalid_grant (RFC 6749 5.2).",
        "The application starts no session. The error page offers a new sign-in, which gets a new code.",
    ),
    FaultStory(
        FAULTS["token.invalid_client_401"],
        "The client secret is wrong",
        "The provider does not accept the application's secret. It was changed on one side only.",
        "You did nothing wrong, and the page does not blame you. The log of the application, in the terminal, names "
        "the setting.",
        "The application stops the sign-in. Only its operator can repair this.",
    ),
    FaultStory(
        FAULTS["authorize.wrong_state"],
        "The answer belongs to another sign-in",
        "The provider sends you back with a state that the application did not make, as in a link from an attacker.",
        "The callback fails without a token request.",
        "The application finds no sign-in of this browser with this state, and ignores the code (RFC 6749 10.12).",
    ),
    FaultStory(
        FAULTS["authorize.wrong_iss"],
        "The answer names another provider",
        "The parameter iss of the answer names attacker.example. In a mix-up attack, a dishonest provider wants the "
        "code of an honest one.",
        "The callback fails without a token request: the code stays secret.",
        "The application compares iss with the provider that it had asked (RFC 9207), and stops.",
    ),
    FaultStory(
        FAULTS["token.id_token_for_another_client"],
        "The ID token is for another application",
        "The ID token is genuine and has the right signature, but its audience, aud, is another application.",
        "Everything succeeds until the token response. Its ID token is refused.",
        "The application checks aud (OpenID Connect Core 3.1.3.7). Otherwise a dishonest application could sign "
        "in here with the ID tokens of its own users.",
        scope="openid",
    ),
    FaultStory(
        FAULTS["profile.401"],
        "The access token expires at once",
        "The provider rejects the access token at its first use, as if its lifetime of one hour were over.",
        "You notice nothing. In the trace, a second token request follows, with the grant type refresh_token.",
        "The application exchanges the refresh token for a new access token, once for all requests that need it.",
    ),
    FaultStory(
        FAULTS["revoke.503"],
        "The provider does not hear the sign-out",
        "The sign-in succeeds. When you sign out, the application asks the provider to revoke the tokens, and the "
        "provider answers with the status 503.",
        "Sign in, then sign out. You are signed out all the same.",
        "The application deletes its session first, whatever the provider says (RFC 7009). Its log, in the terminal, "
        "says that a token was not revoked.",
    ),
)
"""The stories, in the order of the pages."""
