"""Sessions: what they are (``session``), where they live (``store``, ``memory``, ``file``, ``redis``), and how nobody
reads them there (``seal``).
"""
