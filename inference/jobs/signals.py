"""What other apps may listen to."""

from django.dispatch import Signal

#: Sent with the primary key ``pk`` at the start of a transaction that may end an analysis, so that a receiver can lock
#: what belongs to it first.
analysis_ending = Signal()

#: Sent with ``analysis`` inside the transaction in which it ends as done or failed.
analysis_ended = Signal()

#: Sent by every running cluster every few seconds, for what has to be done now and then.
housekeeping = Signal()
