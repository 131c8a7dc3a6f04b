"""Many callers, one model: requests, the queue, batches, and the cache of scores."""
