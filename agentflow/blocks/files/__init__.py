"""Holds the blocks that read files and tables."""
