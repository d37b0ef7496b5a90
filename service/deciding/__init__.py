"""What is served and decided, and the records of it: points, releases, jobs, notes, reports."""
