-- requires: edition/*/rollup.sql, identity/grants.sql
-- where: nodes
--
-- Before it changes a shard, Citus asks the worker for the right to do so on the table itself, of which
-- the worker has an empty image. What the coordinator grants (sql/identity/grants.sql) holds there, too.

create or replace function ops.grant_on_node()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set citus.enable_ddl_propagation = off
as $$
begin
    grant select on
        identity.tenant, telemetry.metric, telemetry.metric_alias, telemetry.metric_unit, telemetry.site,
        telemetry.sensor, alert.threshold
    to headwater_app;
    grant insert, update on identity.tenant, telemetry.site, telemetry.sensor to headwater_app;
    grant insert, update, delete on alert.threshold to headwater_app;
    grant update on alert.episode to headwater_app;
    grant insert, truncate on alert.candidate to headwater_app;
    grant update, delete on telemetry.ingest_log to headwater_app;

    grant select, insert on telemetry.reading to headwater_ingest;
    grant select, insert, update on telemetry.latest_reading to headwater_ingest;
    grant insert on telemetry.ingest_log, alert.candidate to headwater_ingest;

    -- whoever writes a row that refers to a metric must be allowed to lock it there, which Citus takes for
    -- the right to update; the coordinator grants no such thing
    if (select l.groupid from pg_dist_local_group as l) <> 0 then
        grant update on telemetry.metric to headwater_app;
    end if;
end;
$$;
comment on function ops.grant_on_node() is
    'Grants on this node''s images of the tables what Citus asks for; again whenever it has made them anew.';

select ops.grant_on_node();
