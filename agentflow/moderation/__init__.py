"""Checks what runs are given and what they give out, where the operator wants that."""
