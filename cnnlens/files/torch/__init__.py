"""PyTorch's model files: state dicts by a pickle machine that calls nothing, and exported programs as networks."""
