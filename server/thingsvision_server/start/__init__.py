"""Starts and stops the server's process: checks, log, signals, summary."""
