-- requires: identity/grants.sql
-- where: shards
--
-- The jobs refresh the stored rollups themselves.

grant select, insert, delete on
    telemetry.rollup_1m_stored, telemetry.rollup_1h_stored, telemetry.rollup_1d_stored
to headwater_app;
grant update on telemetry.rollup_watermark to headwater_app;
-- The views of the rollups ask where their stored part ends, as whoever reads them.
grant execute on function telemetry.rollup_until(text) to headwater_analyst, headwater_grafana;
grant select on telemetry.rollup_watermark to headwater_analyst, headwater_grafana;
