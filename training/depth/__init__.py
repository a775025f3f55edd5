"""Training of the depth and pose networks (PyTorch; not installed with the package)."""
