"""Holds the blocks that ask a language model, and what they share: conversations, answers, tools, the client."""
