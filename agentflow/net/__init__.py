"""Sends every request and connection to an address that a user names, through one guard against private networks."""
