"""The console: a process of its own that shows a running service and gives operators their hands on it."""
