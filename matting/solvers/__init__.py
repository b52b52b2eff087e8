"""Laplacians, neighbour search and the conjugate-gradient solver that the eight methods share."""
