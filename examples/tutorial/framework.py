"""The imaginary web framework of the page, made real on Werkzeug's requests and responses.

A :class:`RequestHandler` answers the requests for one route, an :class:`Application` is the WSGI application with all
of them, and :class:`CookieSessions` keeps ``request.session`` in a signed cookie, as Flask does.
"""

import hashlib
import hmac
import json
import logging
import os
import socket
from base64 import urlsafe_b64decode, urlsafe_b64encode

from werkzeug import Request, Response
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound
from werkzeug.serving import run_simple
from werkzeug.utils import redirect

from wsgi_oauth.demo.local_provider import LocalProvider
from wsgi_oauth.demo.server import serve_provider

METHODS = {"GET": "get", "POST": "post"}


class RequestHandler:
    """Answers the requests for ``route``, with a method for each HTTP method: ``get``, ``post``."""

    route = "/"

    def redirect(self, url, status=302):
        return redirect(url, status)

    def jsonify(self, document):
        return Response(json.dumps(document), content_type="application/json")

    def url_for(self, endpoint):
        """Return the path of an endpoint: ``/profile`` for ``.profile``."""
        return endpoint.replace(".", "/")


class Application:
    """A WSGI application: loads the session, calls the handler of the route, and saves the session."""

    def __init__(self, handlers, sessions):
        self.handlers = {handler.route: handler() for handler in handlers}
        self.sessions = sessions

    def __call__(self, environ, start_response):
        request = Request(environ)
        request.session = self.sessions.load(request)
        response = self.respond(request)
        self.sessions.save(request.session, response)
        return response(environ, start_response)

    def respond(self, request):
        try:
            if request.path not in self.handlers:
                raise NotFound
            method = getattr(self.handlers[request.path], METHODS.get(request.method, ""), None)
            if method is None:
                raise MethodNotAllowed
            return method(request)
        except HTTPException as error:
            return error.get_response()
        except Exception:
            logging.exception("%s failed", request.path)
            return InternalServerError().get_response()


class CookieSessions:
    """Keeps the session in the cookie, signed with a secret key: the browser can read it, but not change it."""

    def __init__(self, secret_key):
        self.secret_key = secret_key

    def load(self, request):
        content, _, signature = request.cookies.get("session", "").partition(".")
        is_genuine = hmac.compare_digest(signature.encode(), self.sign(content).encode())
        return json.loads(urlsafe_b64decode(content)) if is_genuine else {}

    def save(self, session, response):
        content = urlsafe_b64encode(json.dumps(session).encode()).decode()
        response.set_cookie("session", f"{content}.{self.sign(content)}", httponly=True)

    def sign(self, content):
        return hmac.new(self.secret_key, content.encode(), hashlib.sha256).hexdigest()


def serve(application):
    """Serve *application* at http://127.0.0.1:8000/, and a provider at http://127.0.0.1:8001/, until Ctrl-C."""
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # plain http, which is acceptable on one machine only
    check_port(8000, "application")
    check_port(8001, "provider")
    provider = LocalProvider(redirect_uris=["http://127.0.0.1:8000/callback"], require_pkce=False)
    with serve_provider(provider, port=8001):
        run_simple("127.0.0.1", 8000, application, threaded=True)


def check_port(port, server):
    """End the program with a message if another one uses the port."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        reason = os.strerror(error.errno).lower()
        message = f"port {port} on 127.0.0.1 for the {server}: {reason}; stop the other step or demo that uses it"
        raise SystemExit(message) from error
