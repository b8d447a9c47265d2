"""The gate: middleware that lets only signed-in users reach another WSGI application."""
