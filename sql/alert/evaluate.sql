-- requires: alert/derive.sql
-- requires: alert/tell.sql
-- requires: alert/watch.sql
-- where: shards
--
-- The candidates' door: a batch is judged in the writer's transaction.
--
-- Lock order: readings, then the causes' advisory locks in ascending order, then episodes.

create or replace function alert.tg_candidate__evaluate()
returns trigger
language plpgsql
-- the ingest role may append candidates but never touch an episode
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_batch constant alert.candidate[] := array(
        -- by name, or each would go through its text to become a candidate
        select (b.sensor_id, b.ts, b.value, b.metric_id)::alert.candidate
        from batch as b
        order by b.sensor_id, b.metric_id, b.ts
    );
    v_outcome alert.episode;
    v_outcomes alert.episode[];
    v_new_count integer := 0;
    v_dropped_count integer := 0;
begin
    if v_batch = '{}' then
        return null;
    end if;

    -- Two writers may hold readings of one cause; whoever comes second sees what the first decided.
    -- 256 buckets, not one lock a sensor: the server's lock table is finite.
    perform pg_advisory_xact_lock(7201, bucket.no)
    from (
        select distinct alert.bucket_of(b.sensor_id)::integer as no
        from unnest(v_batch) as b
        order by 1
    ) as bucket;

    -- What no rule can care about falls out here: writers send hardly any of it.
    v_outcomes := alert.derive(v_batch);
    foreach v_outcome in array v_outcomes loop
        if v_outcome.episode_id is null then
            v_new_count := v_new_count + 1;
        elsif v_outcome.state = 'dropped' then
            v_dropped_count := v_dropped_count + 1;
        end if;
    end loop;

    -- alert.tg_episode__tell() does the rest: outbox, watch, bell. Updates first: with the watch held nobody
    -- must be waited for who decides about an alert.
    if cardinality(v_outcomes) > v_new_count + v_dropped_count then
        update alert.episode as e
        -- a person may have decided since the batch was judged, and that holds
        set state = case
                when e.state in ('acknowledged', 'investigating') and o.state <> 'resolved' then e.state
                else o.state
            end,
            opened_at = o.opened_at,
            last_at = o.last_at,
            evaluated_at = greatest(o.evaluated_at, e.evaluated_at),
            resolved_at = o.resolved_at,
            peak = o.peak,
            reading_count = o.reading_count
        from unnest(v_outcomes) as o
        where e.sensor_id = o.sensor_id and e.episode_id = o.episode_id and o.state <> 'dropped'
            and (e.state <> 'resolved' or o.state = 'resolved');
    end if;

    if v_dropped_count > 0 then
        delete from alert.episode as e
        using unnest(v_outcomes) as o
        where e.sensor_id = o.sensor_id and e.episode_id = o.episode_id and o.state = 'dropped';
    end if;

    if v_new_count > 0 then
        insert into alert.episode (
            tenant_id, site_id, sensor_id, metric_id, threshold_id, severity, side, state, limit_value,
            opened_at, last_at, evaluated_at, resolved_at, peak, reading_count
        )
        select
            o.tenant_id, o.site_id, o.sensor_id, o.metric_id, o.threshold_id, o.severity, o.side,
            o.state, o.limit_value, o.opened_at, o.last_at, o.evaluated_at, o.resolved_at, o.peak,
            o.reading_count
        from unnest(v_outcomes) as o
        where o.episode_id is null
        order by o.opened_at;
    end if;
    return null;
end;
$$;
comment on function alert.tg_candidate__evaluate() is
    'Judges a batch of candidates and changes episodes.';

create or replace trigger _500_evaluate
after insert on alert.candidate
referencing new table as batch
for each statement execute function alert.tg_candidate__evaluate();
