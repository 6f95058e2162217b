"""Shares the device, and the threads that decode, over people, then over their requests."""
