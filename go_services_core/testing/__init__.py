"""What plugin authors and applications test with: conformance kits, a memory store, a scripted transport, a clock that
stands still, and a provider to connect to."""
