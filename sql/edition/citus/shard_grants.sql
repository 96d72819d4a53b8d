-- requires: edition/citus/reference_grants.sql, edition/citus/shard.sql, edition/*/rollup.sql, alert/*.sql, telemetry/*.sql
-- where: shards
--
-- The coordinator asks the workers as whoever asks it, so whoever may read through a view there may read
-- shards here. That is why people's logins must reach no worker: docs/operating.md.

grant usage on schema identity, telemetry, alert, archive, ops to headwater_app;
grant select on ops.applied to headwater_app;
grant usage on schema telemetry, alert to headwater_ingest;
grant usage on schema identity, telemetry, alert
to headwater_analyst, headwater_grafana, headwater_sql;

grant select on
    telemetry.reading, telemetry.latest_reading, telemetry.rollup_1m, telemetry.rollup_1h,
    telemetry.rollup_1d, alert.episode
to headwater_app, headwater_analyst, headwater_grafana, headwater_sql;

grant update on alert.episode to headwater_app;
grant select, insert, delete, truncate on alert.candidate to headwater_app;
grant select, update, delete on telemetry.ingest_log to headwater_app;
grant execute on function
    alert.sweep(timestamptz, timestamptz), alert.rules_for(bigint[], smallint[]),
    alert.stored_around(
        bigint, smallint, timestamptz, timestamptz, text, double precision, double precision
    )
to headwater_app;

grant select on alert.episode to headwater_ingest;
grant select, insert on telemetry.reading to headwater_ingest;
grant select, insert, update on telemetry.latest_reading to headwater_ingest;
grant insert on telemetry.ingest_log, alert.candidate to headwater_ingest;
grant usage on sequence alert.shard_number to headwater_ingest, headwater_app;
grant execute on function
    telemetry.repair_latest(), telemetry.make_chunks(timestamptz[]),
    alert.changed_since(bigint[]), alert.bands()
to headwater_ingest;
