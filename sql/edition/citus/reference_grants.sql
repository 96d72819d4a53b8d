-- requires: edition/*/rollup.sql, identity/grants.sql, identity/grants_sql.sql
-- where: placements, shards
--
-- Every node's copies of the reference tables. The same rights as on the tables themselves.

grant select on
    identity.tenant, telemetry.metric, telemetry.metric_alias, telemetry.metric_unit, telemetry.site,
    telemetry.sensor
to headwater_app, headwater_analyst, headwater_grafana, headwater_sql;
grant insert, update on identity.tenant, telemetry.site, telemetry.sensor to headwater_app;
grant select, insert, update, delete on alert.threshold to headwater_app;
grant select on archive.export, archive.restored, archive.tenant_policy to headwater_app;
grant select on archive.export to headwater_analyst;

grant usage on schema identity, telemetry to headwater_analyst, headwater_grafana, headwater_sql;
