"""Flask-AppBuilder behind the gate: ``gunicorn -c python:wsgi_oauth.gunicorn_conf appbuilder_app:app``.

Set ``FLASK_SECRET_KEY`` in the environment. Members of the provider's group ``admins`` get the role Admin, other users
Public.
"""

import os

from flask import Flask, abort, current_app, request
from flask_appbuilder import AppBuilder
from flask_appbuilder.const import AUTH_REMOTE_USER
from flask_appbuilder.utils.legacy import get_sqla_class
from flask_login import current_user, login_user, logout_user

from wsgi_oauth import LoginRequired, current_identity, get_app

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ["FLASK_SECRET_KEY"],
    SQLALCHEMY_DATABASE_URI=f"sqlite:///{os.path.abspath('appbuilder.sqlite3')}",
    AUTH_TYPE=AUTH_REMOTE_USER,
    AUTH_USER_REGISTRATION=True,
    AUTH_USER_REGISTRATION_ROLE="Public",
)


@app.before_request  # before AppBuilder is created, because it reads the user in a function of its own
def follow_the_gate():
    security = current_app.appbuilder.sm
    name = request.environ.get("REMOTE_USER")
    if not current_user.is_authenticated or current_user.username != name:
        logout_user()
        if name is None:  # an anonymous user of a public path
            return
        user = security.auth_user_remote_user(name)
        if user is None:
            abort(403, "This account is not active.")
        login_user(user)
    roles = [security.find_role("Admin" if "admins" in current_identity(request.environ).groups else "Public")]
    if current_user.roles != roles:
        current_user.roles = roles
        security.update_user(current_user)


with app.app_context():
    db = get_sqla_class()(app)
    appbuilder = AppBuilder(app, db.session)

app.wsgi_app = LoginRequired(
    app.wsgi_app, get_app(), public=("/static",), sign_out=("/logout/",), expire_cookies=("session",)
)
