-- requires: edition/apache/rollup.sql
-- where: shards
--
-- What continuous aggregate policies do on the community edition.

create or replace procedure telemetry.refresh_rollups()
language plpgsql
-- no `set search_path`: a procedure with settings of its own may not commit
as $$
declare
    v_until constant timestamptz :=
        date_trunc('minute', clock_timestamp() - interval '1 minute', 'UTC');
    v_mark timestamptz;
    v_from timestamptz;
    v_to timestamptz;
begin
    -- 1. forward, day by day: what the views computed so far becomes stored
    loop
        -- one refresher at a time; the lock ends with each day's commit
        perform pg_advisory_xact_lock(7202, 0);
        select w.materialised_until into v_mark
        from telemetry.rollup_watermark as w where w.rollup = '1m';
        exit when v_mark >= v_until;

        select min(r.ts) into v_from
        from telemetry.reading as r where r.ts >= v_mark and r.ts < v_until;
        v_to := least(
            date_trunc('day', coalesce(v_from, v_until), 'UTC') + interval '1 day', v_until);
        if v_from is not null then
            update telemetry.ingest_log as l
            set rolled_up_at = clock_timestamp()
            where l.rolled_up_at is null and l.first_ts >= v_from and l.last_ts < v_to;
            call telemetry.refresh_rollup_range(greatest(v_mark, date_trunc('day', v_from, 'UTC')), v_to);
        else
            v_to := v_until;
        end if;
        update telemetry.rollup_watermark as w
        set materialised_until = date_trunc(
            case w.rollup when '1m' then 'minute' when '1h' then 'hour' else 'day' end, v_to, 'UTC');
        commit;
    end loop;
    commit;

    -- 2. back, day by day: readings that came after their time was stored
    loop
        perform pg_advisory_xact_lock(7202, 0);
        with day as (
            select date_trunc('day', min(l.first_ts), 'UTC') as starts_at
            from telemetry.ingest_log as l
            where l.rolled_up_at is null and l.first_ts < v_until
        ),
        taken as (
            update telemetry.ingest_log as l
            set rolled_up_at = clock_timestamp()
            from day as d
            where l.rolled_up_at is null
                and l.first_ts >= d.starts_at
                and l.first_ts < least(d.starts_at + interval '1 day', v_until)
            returning l.first_ts, l.last_ts
        )
        select min(t.first_ts), max(t.last_ts) + interval '1 microsecond'
        into v_from, v_to
        from taken as t;
        exit when v_from is null;
        call telemetry.refresh_rollup_range(v_from, v_to);
        commit;
    end loop;
    commit;
end;
$$;
comment on procedure telemetry.refresh_rollups() is
    'Brings the stored rollups up to the last whole minute and takes in late readings.';

create or replace function telemetry.rollup_refresh_steps(p_is_scheduled boolean)
returns setof text
language sql
stable
return 'call telemetry.refresh_rollups()';
comment on function telemetry.rollup_refresh_steps(boolean) is
    'Statements that refresh the rollups, in order, each to be run outside a transaction; scheduled: '
    'only those that nobody else runs regularly.';

create or replace function telemetry.hasten_rollups(p_from timestamptz, p_to timestamptz)
returns double precision
language sql
immutable
return 0.0;
comment on function telemetry.hasten_rollups(timestamptz, timestamptz) is
    'Has the rollups of that time refreshed now, and says which share of it is not yet: none here, since '
    'whoever may ask runs the steps of telemetry.rollup_refresh_steps().';
