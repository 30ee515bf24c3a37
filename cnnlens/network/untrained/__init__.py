"""Where a weight began: the initializers of Keras and the defaults of torch.nn, drawn and as densities."""
