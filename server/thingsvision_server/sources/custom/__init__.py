"""Families of models that each have a source of their own, under the name `custom`."""
