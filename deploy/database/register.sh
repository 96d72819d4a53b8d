#!/bin/sh
# Makes one database of several servers: the extensions on each, then the coordinator's list of
# workers. COORDINATOR and WORKERS are host:port; PG* variables say the rest. Safe to run again.
set -eu

run() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --host "${1%:*}" --port "${1##*:}" \
        --set host="${2%:*}" --set port="${2##*:}" "--file=-"
}

for node in $COORDINATOR $WORKERS; do
    # as a local matter: every node is told by itself
    run "$node" "$node" <<'SQL'
set client_min_messages = warning;
set citus.enable_ddl_propagation = off;
create extension if not exists citus;
create extension if not exists timescaledb;
select count(*) > 0 as has_toolkit from pg_available_extensions
where name = 'timescaledb_toolkit' \gset
\if :has_toolkit
create extension if not exists timescaledb_toolkit;
\endif
SQL
done

run "$COORDINATOR" "$COORDINATOR" <<'SQL'
select count(*) = 0 as is_new from pg_dist_node where groupid = 0 \gset
\if :is_new
select citus_set_coordinator_host(:'host', :port) \g /dev/null
\endif
SQL
for worker in $WORKERS; do
    run "$COORDINATOR" "$worker" <<'SQL'
select citus_add_node(:'host', :port) \g /dev/null
SQL
done
run "$COORDINATOR" "$COORDINATOR" <<'SQL'
select format('%s:%s', nodename, nodeport) as workers
from pg_dist_node where groupid <> 0 order by nodename, nodeport;
SQL
