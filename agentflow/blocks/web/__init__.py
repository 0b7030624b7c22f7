"""Holds the blocks that use services on the web: requests, search, feeds, mail."""
