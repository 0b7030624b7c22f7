"""Tells users what they asked to be told: an outbox of notifications, and their delivery over channels of the users."""
