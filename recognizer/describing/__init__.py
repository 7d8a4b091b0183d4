"""Visible descriptions of categories, from WordNet or written by a language model, and their way into a memory.

`describe_categories` in `describe` is the entry; each source turns a batch of categories into drafts, which are cleaned
in one place. Nothing here knows of images beyond the few example images that a question shows.
"""
