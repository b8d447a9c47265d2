"""Attacks on OAuth clients: each test carries out one attack and names the guard that prevents it.

Each test runs at least twice: ``[prevented]`` is the unchanged application, where the attack fails. In
``[succeeds without sign_in.find_start]`` this guard is replaced and the attack succeeds, which proves that the attack
is real and the guard is necessary. A test with several guards runs once without each of them.

``pytest tests/attacks -v`` is the table of contents. ``docs/requirements.md`` lists the guards with the attacks that
they prevent.
"""
