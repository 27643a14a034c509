"""The release of the whole train; every distribution of the workspace carries it."""

VERSION = "0.1.0"
