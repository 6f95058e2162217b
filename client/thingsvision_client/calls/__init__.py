"""Checks a call before it begins: its arguments, their types, its memory; and where it was made."""
