"""Recipes that make the weights that samptag ships, end to end."""
