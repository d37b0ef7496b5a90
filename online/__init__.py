"""The log and the fold: events, online models, drift, snapshots."""
