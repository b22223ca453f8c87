"""The order in which rows are locked.

Every transaction that locks several rows locks them in this order, so that there are no deadlocks:

1. the account,
2. its cases, and the cases assigned to it,
3. tags, slides and analyses of a case,
4. the account's place in the queue (:class:`inference.models.UserQueueState`), and then everybody's.

Creating a case locks its owner's account, and adding or ending an analysis locks its case. While an account is locked,
it therefore gets no further case, and while a case is locked, none of its analyses is added or ends. Workers that claim
analyses or report progress change single rows without a transaction, so nothing waits for them.

SQLite locks the whole database for each writing transaction; there, these locks do nothing.
"""

from __future__ import annotations

import uuid
from typing import Any

from cases.models import Case, User


def lock_account(user: User) -> None:
    """Lock an account against deletion, and against further cases by others, until the transaction ends."""
    list(User.objects.select_for_update(no_key=True).filter(pk=user.pk).values_list("pk"))


def lock_case(pk: uuid.UUID, for_deletion: bool = False) -> None:
    """Lock a case until the transaction ends. ``for_deletion`` also keeps out new rows that refer to it."""
    cases = Case.objects.filter(pk=pk)
    list((cases.select_for_update() if for_deletion else cases.for_change()).values_list("pk"))


def lock_case_of_analysis(sender: Any, pk: uuid.UUID, **kwargs: Any) -> None:
    """Signal receiver: lock the case of an analysis that is about to end."""
    list(Case.objects.for_change().filter(slides__analyses=pk).values_list("pk"))
