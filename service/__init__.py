"""The composition root: HTTP, processes, settings and command line."""
