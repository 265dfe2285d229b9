"""Measured speeds: taken from a live Ollama, kept beside the spec."""
