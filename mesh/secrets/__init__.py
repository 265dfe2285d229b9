"""Secrets: the age file, environment variables and commands that hold the values which the spec refers to by name."""
