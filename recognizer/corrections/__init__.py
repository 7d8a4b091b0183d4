"""Corrections of results by people: how they are kept, in which order images are shown, and what is learnt from them.

`log` keeps them, `imports` reads those of other tools, `queue` orders the images to look at, `learn` makes exemplars of
them, and `again` scores the folder again.
"""
