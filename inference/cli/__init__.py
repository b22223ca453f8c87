"""The command line: the same engine and numbers as page and API, without database or server.

No Django here: the management command ``predict`` is a thin cover.
"""
