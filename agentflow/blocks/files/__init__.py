"""Blocks that read files and tables."""
