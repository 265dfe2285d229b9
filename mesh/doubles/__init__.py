"""Test doubles of what homelab-mesh talks to: cloud model APIs, Ollama and Qdrant. No model, no GPU, no vector engine."""

BANNER = "homelab-mesh test double"
