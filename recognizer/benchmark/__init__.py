"""The published protocols of GRAIN and RAR, each one command: `recognizer benchmark NAME --data DIR`.

A protocol is a function that takes a `Bench` (the encoder, and how images are encoded), a folder of data and its own
options, and returns a `BenchmarkTable`. Its command in `recognizer.cli` has the options. Nothing is downloaded.
"""
