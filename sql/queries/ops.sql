-- name: heartbeat_ages
select h.process, extract(epoch from now() - h.beaten_at)::double precision as age_seconds
from ops.heartbeat as h
order by h.process;

-- name: wal_written
select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint as position;

-- name: wal_replayed
select pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint as position;

-- name: moves_unfinished
select m.shard_id, m.source, m.target, m.state, m.is_running, m.problem
from ops.unfinished_moves() as m;
