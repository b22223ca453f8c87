"""Signals sent during sign-in."""

from django.dispatch import Signal

#: Sent with ``user`` when the password was accepted and a one-time code is still required.
password_accepted = Signal()
