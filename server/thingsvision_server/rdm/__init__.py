"""Representational dissimilarity matrices: pure maths; knows no model, image or request."""
