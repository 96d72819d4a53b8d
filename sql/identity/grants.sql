-- requires: analytics/*.sql, alert/*.sql, telemetry/*.sql, edition/*/rollup.sql, edition/*/refresh.sql, edition/*/tidy.sql, ops/*.sql
-- requires: edition/citus/watch.sql, edition/citus/telemetry.sql, edition/citus/sweep.sql, edition/citus/size.sql, edition/citus/moves.sql
-- requires: edition/citus/back.sql
--
-- Each role gets what it needs and nothing else. Everything is taken away first, so that a grant
-- removed here is gone from the database as well.

do $$
declare
    v_schema text;
    v_role text;
begin
    foreach v_schema in array array['identity', 'telemetry', 'alert', 'analytics', 'ops'] loop
        foreach v_role in array array[
            'headwater_app', 'headwater_ingest', 'headwater_analyst', 'headwater_grafana'
        ] loop
            execute pg_catalog.format(
                'revoke all on schema %I from %I', v_schema, v_role);
            execute pg_catalog.format(
                'revoke all on all tables in schema %I from %I', v_schema, v_role);
            execute pg_catalog.format(
                'revoke all on all routines in schema %I from public, %I', v_schema, v_role);
        end loop;
    end loop;
end
$$;

-- the API and the jobs
grant usage on schema identity, telemetry, alert, analytics, ops to headwater_app;
grant select on all tables in schema identity, telemetry, alert, analytics, ops to headwater_app;
grant execute on all routines in schema identity, telemetry, alert, analytics, ops to headwater_app;
grant insert, update on identity.tenant, identity.api_key, telemetry.site, telemetry.sensor
    to headwater_app;
grant insert, delete on identity.api_key_sensor to headwater_app;
grant insert, update, delete on alert.threshold to headwater_app;
grant update on alert.episode, alert.watch to headwater_app;
grant insert, delete on alert.outbox to headwater_app;
grant insert, truncate on alert.candidate to headwater_app;
grant insert, delete on telemetry.ingest_reply to headwater_app;
grant update, delete on telemetry.ingest_log to headwater_app;
grant insert, update on ops.heartbeat to headwater_app;

-- the readings' writers
grant usage on schema telemetry, alert to headwater_ingest;
grant select, insert on telemetry.reading to headwater_ingest;
grant select, insert, update on telemetry.latest_reading to headwater_ingest;
grant insert on telemetry.ingest_log to headwater_ingest;
grant insert on alert.candidate to headwater_ingest;
grant execute on function
    telemetry.repair_latest(), alert.changed_since(bigint[]), alert.bands(),
    alert.events_after(bigint, bigint[], integer, bigint)
to headwater_ingest;

-- people's SQL and dashboards
grant usage on schema analytics to headwater_analyst, headwater_grafana;
grant select on all tables in schema analytics to headwater_analyst, headwater_grafana;
