"""The adapters: one small file for each framework that can run a network.

Core never imports from here; it finds adapters by the entry points that this distribution declares.
"""
