"""The atlas: every kind of layer at settings that cover each other's pairs, under every backend, each audited alone.

``setting`` and the tables say what is tried, ``networks`` puts many settings into one network, ``running`` runs it,
``shrinking`` makes what disagrees small, ``scripts`` writes it down for the framework alone.
"""
