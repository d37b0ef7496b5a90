"""Worlds: Gymnasium environments of business decisions that know their exact optimum."""
