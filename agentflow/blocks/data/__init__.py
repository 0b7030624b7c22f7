"""Holds the blocks that work on values: numbers, lists, dictionaries, dates, databases, code."""
