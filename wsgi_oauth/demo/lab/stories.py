"""The table of all attacks."""

from __future__ import annotations

from collections.abc import Mapping

from . import request_attacks, session_attacks, sign_in_attacks
from .story import Story

#: All stories by their names, the best known attacks first.
STORIES: Mapping[str, Story] = {
    story.name: story
    for story in (
        sign_in_attacks.LOGIN_CSRF,
        sign_in_attacks.CODE_INJECTION,
        sign_in_attacks.OPEN_REDIRECT,
        sign_in_attacks.MIX_UP,
        session_attacks.SESSION_FIXATION,
        session_attacks.COOKIE_REPLAY,
        session_attacks.COOKIE_TOSSING,
        session_attacks.SESSION_LISTING,
        request_attacks.FORGED_SIGN_OUT,
        request_attacks.TOKEN_REDIRECT,
        request_attacks.FORGED_HOST,
        request_attacks.FORGED_IDENTITY,
    )
}
