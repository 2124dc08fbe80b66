"""Finds the model in service, the third contender: in ML Metadata, or in the ledger."""
