"""Data in and features out, on the user's machine; knows no server."""
