"""Verification of inbound webhooks: raw bytes in, a verdict out, no I/O."""
