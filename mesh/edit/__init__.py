"""Editing the operator's spec: what changes is spliced into the text, so every other byte of it stays as it was written."""
