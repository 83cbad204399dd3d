"""The lease in a ledger."""
