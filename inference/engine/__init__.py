"""The model: decoding, patches, network, results and maps. Without Django.

Only :mod:`network`, :mod:`upstream` and the PyTorch runtime import torch, so web processes can use the rest.
"""
