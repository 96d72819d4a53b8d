-- requires: edition/apache/grants.sql, identity/grants_sql.sql
-- where: shards
--
-- The rollups' views ask where their stored part ends, as whoever reads them.

grant execute on function telemetry.rollup_until(text) to headwater_sql;
grant select on telemetry.rollup_watermark to headwater_sql;
