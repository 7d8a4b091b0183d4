"""Training data: manifests and shards are read, checked and augmented into the same batches on any number of processes.

The entry points are `sources.open_sources` and `loader.Loader`; `token_cache` replaces pictures by the outputs of a
frozen image tower. This package must not know the model, the losses or the ranks: it is told its rank as a number.
"""
