"""The arithmetic that Keras' and PyTorch's spellings of an operation share, in NumPy."""
