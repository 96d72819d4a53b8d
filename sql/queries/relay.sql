-- name: session_now
select
    pg_catalog.current_setting('transaction_isolation') as isolation,
    n.nspname::text as readings_schema
from (select pg_catalog.to_regclass('reading') as oid) as v
left join pg_catalog.pg_class as c on c.oid = v.oid
left join pg_catalog.pg_namespace as n on n.oid = c.relnamespace;
