"""Recipes that come with Halosign."""
