-- requires: identity/grants.sql, edition/citus/watch.sql
--
-- Whoever writes through the coordinator runs alert.changed_since() as itself, so it may see what has
-- an unresolved episode: here and, by edition/citus/shard_grants.sql, on the shards. And it rings itself, because
-- shards may not where a commit has two phases.

grant select on alert.watch, alert.episode to headwater_ingest;
grant execute on function alert.bucket_of(bigint), alert.ring(), alert.watched_living()
to headwater_ingest;
