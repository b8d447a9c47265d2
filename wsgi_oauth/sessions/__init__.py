"""Sessions: their data, their cookie, their lifetimes, and the stores that keep them.

Read ``session`` for the object that handlers use, ``manager`` for the lifecycle, and ``store`` for the
contract of a store. ``encoding``, ``encryption`` and ``cookie`` hold the formats.
"""
