"""Signals of a sign-in that other packages react to."""

from django.dispatch import Signal

#: Sent with ``user`` when a right password was given and a one-time code is still to come.
password_accepted = Signal()
