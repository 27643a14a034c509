"""Auth flows: one file per flow, each a set of generators without I/O."""
