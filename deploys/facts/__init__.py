"""Facts of our own: pyinfra's Docker facts take a dead daemon for one without containers."""
