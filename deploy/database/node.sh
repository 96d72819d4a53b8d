#!/bin/sh
# Starts a node of the cluster: first what it shows other nodes when it logs in there, then the
# image's own start. Nobody is trusted for being in the network.
set -eu

umask 077
: >"$PGPASSFILE"
printf '*:*:*:postgres:%s\n' "$POSTGRES_PASSWORD" >>"$PGPASSFILE"
for role in owner app ingest analyst sql grafana; do
    variable="HEADWATER_$(echo "$role" | tr '[:lower:]' '[:upper:]')_PASSWORD"
    eval "password=\$$variable"
    printf '*:*:*:headwater_%s:%s\n' "$role" "$password" >>"$PGPASSFILE"
done
[ "$(id -u)" -ne 0 ] || chown postgres "$PGPASSFILE"
umask 022
exec "${ENTRYPOINT:-docker-entrypoint.sh}" "$@"
