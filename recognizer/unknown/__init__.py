"""Telling images of none of the categories without labelled data, by negative labels that compete with the names.

NegLabel (arXiv 2403.20078) beside the confidence, with the choice of NegRefine (arXiv 2507.09795): no sub- and
super-categories of the labels and no proper names. `mining` chooses them when a memory is built, and `rule` decides in
a run.
"""
