"""The use cases, one module each; each function takes (session, values), never a request.

The HTTP API is one caller; schedules, webhooks and child runs are others. A caller opens the transaction
(`transaction.py`), so that several use cases can share one; what must follow the commit waits for it there. Every
function that takes an `owner_id` sees that owner's things only: for all others, someone else's thing does not exist.
"""
