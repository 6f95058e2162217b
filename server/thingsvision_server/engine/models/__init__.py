"""Models in memory: loaded, leased, evicted, and offloaded to the host."""
