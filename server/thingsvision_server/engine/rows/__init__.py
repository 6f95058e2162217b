"""Rows that wait for a slow reader, in memory and then on disk."""
