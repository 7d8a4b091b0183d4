"""Runs over many processors, GPUs and machines, on Ray Data: `run --engine ray` and `embed --engine ray`.

The driver lists the images and writes the results; actors decode, encode and search. The rows are those of one
process, for both use the same functions. Ray is imported when it is used, so that nothing here needs it installed.
This package must not know the command line.
"""
