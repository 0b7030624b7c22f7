"""Blocks that work on texts: editing, patterns, templates, escapes, markup."""
