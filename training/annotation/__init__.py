"""From bare images to training data: captions, region descriptions and boxes, all written by frozen models.

Start at `annotate.annotate`. Each stage (`stage.Stage`) is a function over a batch of images; its results are stored
under what they depend on, so that nothing is computed twice. This package must not know how training uses its output.
"""
