"""The command line: ``wsgi-oauth demo``, ``check`` and ``sessions``."""
