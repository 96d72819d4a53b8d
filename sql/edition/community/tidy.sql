create or replace procedure telemetry.tidy_ingest_log(p_older_than interval)
language sql
begin atomic
    -- the continuous aggregates keep an invalidation log of their own
    delete from telemetry.ingest_log as l where l.created_at < now() - p_older_than;
end;
comment on procedure telemetry.tidy_ingest_log(interval) is
    'Forgets log rows that nobody needs any more.';
