-- where: nodes
-- role: superuser
--
-- Citus and TimescaleDB both name a custom scan ColumnarScan. A parallel worker looks plans up by name,
-- gets the other's and crashes; so there are none. Shards are the parallelism here.

do $$
begin
    execute format(
        'alter database %I set max_parallel_workers_per_gather = 0', current_database());
end
$$;
