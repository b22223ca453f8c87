"""Signals of the queue for other apps."""

from django.dispatch import Signal

#: Sent with the primary key ``pk`` at the start of a transaction that may end an analysis, so that a receiver can lock
#: what belongs to it first.
analysis_ending = Signal()

#: Sent with ``analysis`` inside the transaction that marks it as done or failed.
analysis_ended = Signal()

#: Sent by every running cluster every few seconds, for periodic work.
housekeeping = Signal()
