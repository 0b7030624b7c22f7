"""Runs that begin, or go on, when another system sends a webhook."""
