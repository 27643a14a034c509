"""Speed, measured beside a peer on its documented fast path, in alternating pairs, as a ratio of medians."""
