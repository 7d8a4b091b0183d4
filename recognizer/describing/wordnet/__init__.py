"""Concrete nouns of WordNet 3.0, as a table that ships with the package."""
