"""What a plan means to the operator: texts that change, what restarts and for how long, bytes, VRAM, data at risk. Pure."""
