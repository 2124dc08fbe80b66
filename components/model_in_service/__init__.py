"""Finds the model in service, which a contender has to beat: in ML Metadata or the ledger."""
