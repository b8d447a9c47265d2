"""A local OpenID Connect provider (authorization server) for learning and tests, and the demo around it.

The provider is :mod:`.local_provider`, on oauthlib's server side. It has users (:mod:`.users`), grants
(:mod:`.grants`), signatures (:mod:`.signing`) and pages (:mod:`.provider_pages`). :mod:`.profiles` has variants that
behave like well-known products. :mod:`.faults` lists the faults that it can inject.

The command ``wsgi-oauth demo`` begins in :mod:`.launcher`, and records the messages of all parties: :mod:`.recording`
takes them from both servers, :mod:`.recorder` keeps their order, :mod:`.sources` finds the lines of source that
produced them. :mod:`.trace` shows them on a page, :mod:`.walk` prints them. :mod:`.kinds` and :mod:`.explanations`
have the texts for both. :mod:`.lab` is the attack lab.

This package is not for production. Only :mod:`.traced_app` and the lab import the client; :mod:`.own_pages` and
:mod:`.provider_pages` import its templates.
"""
