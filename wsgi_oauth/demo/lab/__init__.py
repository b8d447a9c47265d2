"""The attack lab of ``wsgi-oauth demo``: attacks on sign-ins that succeed without their guard and fail with it.

An attack is a :class:`.story.Story`, carried out by the parties in :mod:`.parties`. :mod:`.stories` lists all attacks.

A run happens in a process of its own (:mod:`.runs`, :mod:`.run`). There, and only there, the guard is replaced by the
code of a program without it: the application has no switch for its guards. ``tests/attacks`` carries out the same
attacks.
"""
