"""Sessions: what they are (``session``), where they live (``store``, ``memory``, ``file``)."""
