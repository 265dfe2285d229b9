"""Taking over Compose projects that run already: read them from a host, write them into the inventory, restart nothing."""
