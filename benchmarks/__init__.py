"""Measurements of cnnlens against its peers, both sides in one run, as ratios. Run with ``python -m benchmarks``."""
