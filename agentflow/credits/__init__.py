"""Credits: what blocks cost, and the ledger of what each owner has and has used."""
