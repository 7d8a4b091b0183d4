"""Recognition over HTTP: requests are decoded apart, encoded together, and answered with the rows that a run writes.

The way of a request: `guards` lets it in, `routes` reads it, `service` decodes its images and queues them, `batches`
encodes what waits together, against the memory that `following` holds. `server` runs all of it.
"""
