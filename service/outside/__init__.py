"""What comes from outside: files, parameters as people write them, a client, and a world played against the service."""
