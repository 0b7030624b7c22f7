"""Everything that leaves the house under one guard: requests and connections to addresses that users name."""
