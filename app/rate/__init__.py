"""Token buckets: how much a sensor, a key and a tenant may send.

`policy` says which limits a caller has, `limiter` asks the buckets before anything is written, and
`fields` tells the sender. The buckets are in Redis (`shared`, `bucket.lua`), where all API processes
see the same ones, or, while there is no Redis, in each process (`local`).
"""
