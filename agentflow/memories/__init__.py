"""Values and outputs that blocks keep from one run to the next."""
