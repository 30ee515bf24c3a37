"""The other side of each measurement: what people do today with Keras alone. Each file runs in a process of its own."""
