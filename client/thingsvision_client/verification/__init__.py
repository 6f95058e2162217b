"""Checks whether files of features still hold what a server gives for the images named in them."""
