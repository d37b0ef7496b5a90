"""Who may do what, and the record of who did: API keys, rates, and the audit chain."""
