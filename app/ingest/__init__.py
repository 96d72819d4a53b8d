"""From a request body to durable readings: decode, resolve, write, reply."""
