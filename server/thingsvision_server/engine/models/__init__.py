"""Models in memory: loaded, leased, evicted, and kept on the host meanwhile."""
