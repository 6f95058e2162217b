"""Files that clients upload: their storage, formats and safety checks."""
