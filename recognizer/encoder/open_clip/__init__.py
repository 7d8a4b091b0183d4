"""Towers made of any open_clip model, without changes to the model."""
