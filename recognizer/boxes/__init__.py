"""Boxes as queries: each box of a file, or each object that the encoder finds, is recognised instead of a whole image.

Start at `formats.read_boxes` and `plan.plan_boxes`; `encode.encode_boxes` makes features of boxes, and all that follows
is as for images. This package must not know how an image is scored.
"""
