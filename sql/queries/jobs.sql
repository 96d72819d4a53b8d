-- name: rollup_refresh_steps
select step from telemetry.rollup_refresh_steps(%(is_scheduled)s) as step;

-- name: rollups_hasten
select telemetry.hasten_rollups(%(first)s::timestamptz, %(last)s::timestamptz) as left_share;

-- name: alert_sweep
select alert.sweep(now() - %(span)s::interval, now()) as swept_count;

-- name: candidate_size
select ops.size_of('alert.candidate') as size_bytes;

-- name: candidate_truncate
truncate alert.candidate;

-- name: reply_tidy
delete from telemetry.ingest_reply where created_at < now() - interval '24 hours';

-- name: outbox_tidy
delete from alert.outbox where created_at < now() - interval '90 days';

-- name: ingest_log_tidy
call telemetry.tidy_ingest_log(interval '7 days');

-- name: beat
insert into ops.heartbeat (process, beaten_at, detail)
values (%(process)s, now(), %(detail)s)
on conflict (process) do update set beaten_at = excluded.beaten_at, detail = excluded.detail;

-- name: job_lock
select pg_try_advisory_lock(7300, hashtext(%(job)s)) as is_mine;

-- name: job_unlock
select pg_advisory_unlock(7300, hashtext(%(job)s)) as was_mine;
