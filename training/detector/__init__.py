"""The aerial detector: data, network, training, export. Needs the extra ``train`` (PyTorch)."""
