-- requires: identity/grants.sql
--
-- `headwater import` writes as the ingest role and keeps its ledger with it.

grant select, insert, update on telemetry.import_file to headwater_ingest;
grant select, insert, delete on telemetry.import_part to headwater_ingest;
grant execute on function telemetry.make_chunks(timestamptz[]) to headwater_ingest;
