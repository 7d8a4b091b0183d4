"""Training data: manifests and shards in, augmented batches out."""
