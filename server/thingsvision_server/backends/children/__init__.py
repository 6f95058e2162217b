"""Child processes with a framework in them: how they start, what they may do, and how they end."""
