"""Measures the service against its rivals, side by side: `scripts/bench --help`."""
