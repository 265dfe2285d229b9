"""What fits the cards of a mesh and how fast it is: the spec, seen through mesh.hardware. Pure."""
