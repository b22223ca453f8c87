"""The model itself: decoding, patches, network, verdict and maps. No Django in here.

Only :mod:`network` and :mod:`runtime` import torch, so that a web process can use the rest.
"""
