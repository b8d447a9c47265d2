"""The tutorial's imaginary web framework, on Werkzeug: requests, handlers, routes, pages and URLs."""
