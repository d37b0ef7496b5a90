"""Policies: training, export, evaluation and off-policy evaluation."""
