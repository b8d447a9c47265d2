"""The command line: ``wsgi-oauth demo``, ``check``, ``sessions`` and ``tokens``."""
