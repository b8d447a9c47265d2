"""What goes wrong with OAuth logins: each test is an attack, told as a story, and why it does not work here.

Each runs at least twice. ``[refused]`` is the application as it is: the attacker gains nothing. In ``[works without
login._find]`` that one guard is taken out, and the attack succeeds; so the story is true, the guard is needed, and
whoever removes it makes a test fail. A lesson with several guards is told once more for each of them.

``pytest tests/attacks -v`` is the table of contents; ``docs/security.md`` has the list of guards and what each refuses.
"""
