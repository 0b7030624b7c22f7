"""Users, their API keys, and how much each may store."""
