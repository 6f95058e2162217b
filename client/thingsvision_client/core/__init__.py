"""Maths on features that the user already holds; knows no server."""
