-- requires: identity/grants.sql, analytics/tenant_views.sql, archive/grants.sql
--
-- The door of one tenant's SQL opens on schema tenant and on nothing else.

revoke all on schema identity, telemetry, alert, analytics, ops, archive, lake, tenant from headwater_sql;
revoke all on all tables in schema identity, telemetry, alert, analytics, ops, archive, tenant
from headwater_sql;
revoke all on all routines in schema identity, telemetry, alert, analytics, ops, archive
from public, headwater_sql;
revoke execute on function
    identity.sql_pass(integer), identity.pass_signature(text), identity.visible_tenants()
from headwater_ingest, headwater_analyst, headwater_grafana;
revoke execute on function identity.pass_signature(text) from headwater_app;

grant usage on schema tenant to headwater_sql;
grant select on all tables in schema tenant to headwater_sql;
grant execute on function identity.visible_tenants() to headwater_sql;
grant execute on function identity.sql_pass(integer) to headwater_app;
revoke all on table identity.pass_secret from headwater_app;
