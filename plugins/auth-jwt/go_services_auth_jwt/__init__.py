"""What needs asymmetric keys: JWT assertions, service accounts, DPoP proofs and the check of ID tokens."""

__version__ = "0.1.0"
