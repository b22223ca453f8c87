"""What other apps may listen to."""

from django.dispatch import Signal

#: Sent with ``analysis`` inside the transaction in which it ends as done or failed.
analysis_ended = Signal()

#: Sent by every running cluster every few seconds, for what has to be done now and then.
housekeeping = Signal()
