"""The runtime: connect, refresh, execute, take in webhooks, hand out events."""
