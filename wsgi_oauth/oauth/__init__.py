"""The OAuth 2 client: providers, tokens, OpenID Connect, and who the user is."""
