"""Maths on features in the user's memory."""
