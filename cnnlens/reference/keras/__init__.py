"""Keras' layers in NumPy, a file a family."""
