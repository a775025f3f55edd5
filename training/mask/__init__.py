"""Training of the network that outlines what moves by itself."""
