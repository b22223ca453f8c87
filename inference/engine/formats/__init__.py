"""Reading image files: one module a family of formats, one way from their samples to sRGB pixels.

:mod:`inference.engine.image` is the entrance. :mod:`.table` says what is read, and docs/formats.md is made from it.
"""
