"""Representational dissimilarity matrices (RDMs) and PCAs: pure maths on arrays."""
