"""Recipes: one folder for each application, from real data to a running service, and the little that they share."""
