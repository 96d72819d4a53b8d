-- requires: edition/apache/rollup_tables.sql

create or replace procedure telemetry.tidy_ingest_log(p_older_than interval)
language sql
begin atomic
    delete from telemetry.ingest_log as l
    where l.created_at < now() - p_older_than and l.rolled_up_at is not null;
end;
comment on procedure telemetry.tidy_ingest_log(interval) is
    'Forgets log rows that the rollups have taken in.';
