"""Checks whether a server still computes the features in a file."""
