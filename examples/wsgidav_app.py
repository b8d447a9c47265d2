"""WsgiDAV behind the gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf wsgidav_app:app``.

It serves the folder ``files``. Set ``WSGI_OAUTH_TOKENS=yes``: WebDAV clients send an access token as the password.
"""

from wsgidav.wsgidav_app import WsgiDAVApp

from wsgi_oauth import LoginRequired, get_app

webdav = WsgiDAVApp(
    {
        "provider_mapping": {"/": "files"},
        "http_authenticator": {"trusted_auth_header": "REMOTE_USER"},
        "simple_dc": {"user_mapping": {"*": {"nobody": {}}}},  # no passwords, and no anonymous access
    }
)
app = LoginRequired(webdav, get_app())
