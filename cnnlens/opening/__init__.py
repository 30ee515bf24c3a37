"""The one door into the house: whatever a person calls a model becomes a Network here."""
