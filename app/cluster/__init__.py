"""The nodes of a distributed database and the groups of shards that lie on them."""
