"""OAuth 2 login as a plain WSGI application: the requests-oauthlib tutorial's imaginary web application, made real.

Start reading with ``flow.py``: the whole flow on one page. ``sign_in.py`` creates and checks the state,
``oauth/client.py`` sends the requests to the provider, ``sessions/`` stores the sessions, ``app.py`` puts all together.
"""

# Imported first, because CPython 3.11 and newer allocate and free a block of the stack again and again while they
# import large packages deep inside other imports. That would take 20 ms.
import requests  # noqa: F401
import requests_oauthlib  # noqa: F401

from . import errors
from .app import create_app, get_app
from .config import Config
from .config.provider import EmailsDocument, GroupsDocument, Provider, UserDocument
from .gate.environ import current_identity, login_url, logout_url, oauth2_session, require_recent_login
from .gate.middleware import LoginRequired
from .oauth.identity import Identity
from .sessions.file import FileStore
from .sessions.memory import MemoryStore
from .sessions.store import SessionStore
from .version import __version__ as __version__
from .web.handler import RequestHandler

__all__ = [
    "Config",
    "EmailsDocument",
    "FileStore",
    "GroupsDocument",
    "Identity",
    "LoginRequired",
    "MemoryStore",
    "Provider",
    "RequestHandler",
    "SessionStore",
    "UserDocument",
    "create_app",
    "current_identity",
    "errors",
    "get_app",
    "login_url",
    "logout_url",
    "oauth2_session",
    "require_recent_login",
]
