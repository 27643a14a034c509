"""Reading answers while they come: incremental parsers, pure and without I/O."""
