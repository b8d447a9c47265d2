"""A local OpenID Connect provider (authorization server) for learning and tests, and the demo around it.

The provider:

=======================  ======================================================================
:mod:`.local_provider`   the provider itself, a WSGI application on oauthlib's server side
:mod:`.users`            its users, and the claims of each scope
:mod:`.grants`           its grants, authorization codes and tokens
:mod:`.signing`          its signatures
:mod:`.provider_pages`   its HTML pages: sign-in page, consent page, home page
:mod:`.profiles`         variants that behave like well-known products
:mod:`.fault_injection`  how faults are injected into its responses
:mod:`.faults`           all faults that it can inject
:mod:`.fault_stories`    ten of them with their stories, for its pages
:mod:`.server`           a threaded HTTP server, for the demo and for tests
=======================  ======================================================================

The command ``wsgi-oauth demo``:

=======================  ======================================================================
:mod:`.launcher`         starts the provider and the application
:mod:`.traced_app`       the application, with recording of its messages
:mod:`.dispatcher`       the provider, with recording of its messages, and the demo's own pages
:mod:`.recording`        records the messages of a party
:mod:`.recorder`         collects the messages of all processes in order
:mod:`.messages`         a message
:mod:`.sources`          the source lines that produce a message
:mod:`.trace`            the page that shows the messages
:mod:`.kinds`            the kinds of messages in plain words
:mod:`.episodes`         divides messages into sign-ins, refreshes and sign-outs
:mod:`.attackers`        the attackers' view of a message
:mod:`.glossary`         the glossary as a page
:mod:`.references`       links to standards and to the glossary
:mod:`.own_pages`        the layout of the demo's own pages
:mod:`.walk`             signs in and prints every HTTP message (``--walk``)
:mod:`.browser`          the small browser of the walk and the lab
:mod:`.printer`          prints the messages
:mod:`.explanations`     the texts that explain headers and parameters
:mod:`.masking`          masks secrets in the output
=======================  ======================================================================

:mod:`.lab` is the attack lab.

This package is not for production. Only :mod:`.traced_app` and the lab import the client; :mod:`.own_pages` and
:mod:`.provider_pages` import its templates.
"""
