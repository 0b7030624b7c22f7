"""Holds the blocks that work on texts: editing, patterns, templates, escapes, markup."""
