"""Carries out the use cases, one module each; every function takes (session, values), never a request.

The HTTP API is one caller; schedules, webhooks and child runs are others. A caller opens the transaction
(`transaction.py`), so that several use cases can share one; what must follow the commit waits for it there. A function
that takes an `owner_id` sees only that owner's things: another's do not exist for it.
"""
