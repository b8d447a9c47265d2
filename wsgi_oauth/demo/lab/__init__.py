"""The attack lab of ``wsgi-oauth demo``: attacks on sign-ins that succeed without their guard and fail with it.

=======================  ======================================================================
:mod:`.parties`          the parties of an attack: victim, attacker, servers
:mod:`.story`            an attack with its story, its guard, and its outcome
:mod:`.sign_in_attacks`  attacks on the sign-in
:mod:`.session_attacks`  attacks on sessions and their cookies
:mod:`.request_attacks`  attacks with forged requests and responses
:mod:`.stories`          the table of all attacks
:mod:`.run`              carries out attacks, in a process of its own
:mod:`.runs`             starts these processes
:mod:`.web`              the pages at ``/lab``
=======================  ======================================================================

A run happens in a process of its own. There, and only there, the guard is replaced by the code of a program without it:
the application has no switch for its guards. ``tests/attacks`` carries out the same attacks.
"""
