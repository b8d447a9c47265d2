"""A local OAuth 2 provider to learn from, to try things on and to test against.

=====================  ========================================================================
:mod:`.provider`       the provider itself, a WSGI application on oauthlib's own server side
:mod:`.grants`         what it remembers: grants, codes and tokens
:mod:`.pages`          what people see: the consent page, the home page, refusals
:mod:`.faults`         misbehaviour on request: the queue, and what a fault can do
:mod:`.catalogue`      every fault there is, one line each
:mod:`.server`         a threaded server that keeps connections, for the demo and for tests
=====================  ========================================================================

Nothing here is meant for production, and nothing of it is imported there.
"""
