"""Blocks that use services on the web: requests, search, feeds, mail."""
