"""The hot path: claim, settle and the rest of the engine's writes, as statements beside the SQL functions they call."""
