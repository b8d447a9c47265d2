"""The version and the home page of this project."""

__version__ = "1.0.0"

HOME_PAGE = "https://github.com/wsgi-oauth/wsgi-oauth"
DOCUMENTS = f"{HOME_PAGE}/blob/main/docs"
#: The User-Agent of each request to a provider. Reddit refuses those of HTTP libraries.
USER_AGENT = f"wsgi-oauth/{__version__} (+{HOME_PAGE})"
