"""Stored features of images, so that a folder is encoded once and run against many memories.

`FeatureStore` is one folder of them, and `encode_or_read` the stream of batches that uses it. This package must
not know memories or scores.
"""

from recognizer.features.source import encode_or_read
from recognizer.features.store import REGION_FLOOR, FeatureStore

__all__ = ["REGION_FLOOR", "FeatureStore", "encode_or_read"]
