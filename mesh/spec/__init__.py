"""The spec: pydantic models (one file a subject) and loading with file:line:column for everything."""
