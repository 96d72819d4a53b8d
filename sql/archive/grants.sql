-- requires: identity/grants.sql, archive/*.sql
--
-- The API reads where cold readings are; people's SQL may attach the lake.

revoke all on schema archive, lake
from headwater_app, headwater_ingest, headwater_analyst, headwater_grafana;
revoke all on all tables in schema archive, lake
from headwater_app, headwater_ingest, headwater_analyst, headwater_grafana;
revoke all on all routines in schema archive
from public, headwater_app, headwater_ingest, headwater_analyst, headwater_grafana;

grant usage on schema archive, lake to headwater_app, headwater_analyst;
grant select on all tables in schema archive, lake to headwater_app;
grant select on all tables in schema lake to headwater_analyst;
grant select on archive.cold_range, archive.export to headwater_analyst;
grant execute on all routines in schema archive to headwater_app;
revoke execute on function
    archive.claim_chunk(timestamptz), archive.drop_chunk(bigint)
from headwater_app;
