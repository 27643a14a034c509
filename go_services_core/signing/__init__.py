"""Signers: pure functions from a final request to a signed one."""
