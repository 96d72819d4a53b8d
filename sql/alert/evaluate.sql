-- requires: alert/judge.sql
-- requires: alert/rules_for.sql
-- requires: alert/stored.sql
-- requires: alert/tell.sql
-- requires: alert/watch.sql
-- where: shards
--
-- From a batch of candidates to episodes, in the writer's transaction.
--
-- An excursion of a cause (sensor, metric, severity, side) goes from its first violating reading to
-- the next clear one, by the readings' own times; it is an alert once a violating reading is at least
-- min_duration younger than the first. While an excursion goes on it is an unresolved episode, so the
-- common case needs the batch and that row only. Readings that come late (older than one already
-- judged) are judged again from the stored readings around them: they may extend an episode or add a
-- closed one, never duplicate one.
--
-- Lock order: readings, then the causes' advisory locks in ascending order, then episodes.

create or replace function alert.derive(
    p_sensor_ids bigint[],
    p_metric_ids smallint[],
    p_batch alert.candidate[]
)
returns setof alert.episode
language plpgsql
stable
-- plpgsql, because it keeps the plan: planning over many chunks costs more than the query
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with stream as (
        select
            b.sensor_id, b.metric_id, array_agg(b) as readings, max(b.ts) as newest_at,
            max(b.value) as highest, min(b.value) as lowest
        from unnest(p_batch) as b
        group by b.sensor_id, b.metric_id
    ),
    -- every cause takes its readings along: a join with all would look at each for each cause
    cause as materialized (
        select
            row_number() over () as cause_no,
            r.sensor_id, r.metric_id, r.severity, r.side, r.tenant_id, r.site_id, r.threshold_id,
            r.limit_value, r.hysteresis, r.min_duration,
            e.episode_id, e.opened_at, e.last_at, e.evaluated_at, e.peak, e.reading_count,
            s.readings, s.newest_at
        from alert.rules_for(p_sensor_ids, p_metric_ids) as r
        join stream as s on s.sensor_id = r.sensor_id and s.metric_id = r.metric_id
        left join alert.episode as e
            on e.sensor_id = r.sensor_id and e.metric_id = r.metric_id
            and e.severity = r.severity and e.side = r.side and e.state <> 'resolved'
        where e.episode_id is not null
            or (r.side = 'high' and s.highest > r.limit_value)
            or (r.side = 'low' and s.lowest < r.limit_value)
    ),
    concerned as materialized (
        select
            c.*, v.first_violation, v.last_violation,
            (select count(*) from unnest(c.readings) as b where b.ts >= v.first_violation)
                as row_count,
            row_number() over (partition by c.episode_id is null) as opening_no
        from cause as c
        cross join lateral (
            select min(b.ts) as first_violation, max(b.ts) as last_violation
            from unnest(c.readings) as b
            where alert.judge(b.value, c.side, c.limit_value, c.hysteresis) = 1
        ) as v
    ),
    stored as (
        select s.no, s.reading_count
        from (
            select
                array_agg(o.sensor_id order by o.opening_no) as sensor_ids,
                array_agg(o.metric_id order by o.opening_no) as metric_ids,
                array_agg(o.first_violation order by o.opening_no) as first_violations,
                array_agg(o.row_count order by o.opening_no) as row_counts,
                max(o.newest_at) as newest_at
            from concerned as o
            where o.episode_id is null
        ) as o
        cross join lateral alert.count_stored(
            o.sensor_ids, o.metric_ids, o.first_violations, o.row_counts, o.newest_at
        ) as s
        where o.sensor_ids is not null
    ),
    touched as materialized (
        select
            c.*,
            case
                when c.episode_id is not null then c.first_violation <= c.evaluated_at
                else c.row_count < s.reading_count
            end as is_late
        from concerned as c
        left join stored as s on s.no = c.opening_no and c.episode_id is null
    ),
    -- the readings to go through, in order of time
    material as (
        -- an unresolved episode goes on from where it was
        select t.cause_no, t.evaluated_at as ts, null::double precision as value, 0 as judgement
        from touched as t
        where t.episode_id is not null and t.is_late is not true
        union all
        select
            t.cause_no, b.ts, b.value,
            alert.judge(b.value, t.side, t.limit_value, t.hysteresis)
        from touched as t
        cross join lateral unnest(t.readings) as b
        where t.is_late is not true
            and (b.ts > t.evaluated_at or (t.episode_id is null and b.ts >= t.first_violation))
        union all
        select t.cause_no, r.ts, r.value, r.judgement
        from touched as t
        cross join lateral alert.stored_around(
            t.sensor_id, t.metric_id, least(t.first_violation, t.opened_at),
            case when t.episode_id is null then t.last_violation else 'infinity' end,
            t.side, t.limit_value, t.hysteresis
        ) as r
        where t.is_late
    ),
    -- every clear reading ends a stretch and begins the next
    numbered as (
        select
            m.*,
            count(*) filter (where m.judgement = -1) over (partition by m.cause_no order by m.ts)
                as stretch_no
        from material as m
    ),
    stretch as (
        select
            n.cause_no, n.stretch_no,
            min(n.ts) filter (where n.judgement = 1) as opened_at,
            max(n.ts) filter (where n.judgement = 1) as last_at,
            max(n.value) filter (where n.judgement = 1) as highest,
            min(n.value) filter (where n.judgement = 1) as lowest,
            count(*) filter (where n.judgement = 1) as reading_count,
            max(n.ts) as newest_at,
            lead(min(n.ts)) over (partition by n.cause_no order by n.stretch_no) as cleared_at
        from numbered as n
        group by n.cause_no, n.stretch_no
    ),
    excursion as (
        select
            t.cause_no, s.stretch_no, t.side,
            coalesce(going_on.episode_id, overlapping.episode_id) as episode_id,
            coalesce(going_on.opened_at, s.opened_at) as opened_at,
            coalesce(s.last_at, going_on.last_at) as last_at,
            greatest(s.highest, going_on.peak) as highest,
            least(s.lowest, going_on.peak) as lowest,
            s.reading_count + coalesce(going_on.reading_count, 0) as reading_count,
            coalesce(s.cleared_at, s.newest_at) as evaluated_at,
            s.cleared_at
        from stretch as s
        join touched as t on t.cause_no = s.cause_no
        left join lateral (
            select t.episode_id, t.opened_at, t.last_at, t.peak, t.reading_count
            where t.episode_id is not null and t.is_late is not true and s.stretch_no = 0
        ) as going_on on true
        left join lateral (
            select e.episode_id
            from alert.episode as e
            where t.is_late
                and e.sensor_id = t.sensor_id and e.metric_id = t.metric_id
                and e.severity = t.severity and e.side = t.side
                and e.opened_at < coalesce(s.cleared_at, 'infinity')
                and coalesce(e.resolved_at, 'infinity') > s.opened_at
            order by e.opened_at
            limit 1
        ) as overlapping on true
        where s.reading_count > 0 or going_on.episode_id is not null
    ),
    -- late clear readings do not split an episode that people know as one
    merged as (
        select
            x.cause_no, x.episode_id,
            min(x.opened_at) as opened_at,
            max(x.last_at) as last_at,
            case x.side when 'high' then max(x.highest) else min(x.lowest) end as peak,
            sum(x.reading_count)::bigint as reading_count,
            max(x.evaluated_at) as evaluated_at,
            (array_agg(x.cleared_at order by x.stretch_no desc))[1] as cleared_at
        from excursion as x
        group by x.cause_no, x.side, x.episode_id, case when x.episode_id is null then x.stretch_no end
    )
    select
        m.episode_id, t.tenant_id, t.site_id, t.sensor_id, t.metric_id, t.threshold_id, t.severity,
        t.side, v.state, t.limit_value, m.opened_at, m.last_at, m.evaluated_at,
        case
            when v.state = 'resolved' then coalesce(greatest(m.cleared_at, e.resolved_at), m.evaluated_at)
        end,
        m.peak, m.reading_count, null::timestamptz, null::timestamptz, null::text, null::text, null::text
    from merged as m
    join touched as t on t.cause_no = m.cause_no
    left join alert.episode as e on e.episode_id = m.episode_id
    cross join lateral (
        select
            coalesce(e.state <> 'pending', false) or m.last_at - m.opened_at >= t.min_duration
                as is_raised
    ) as r
    cross join lateral (
        select
            case
                when e.state = 'resolved' then 'resolved'
                when m.cleared_at is not null then case when r.is_raised then 'resolved' else 'dropped' end
                when not r.is_raised then 'pending'
                when e.state in ('acknowledged', 'investigating') then e.state
                else 'open'
            end as state
    ) as v
    where v.state <> 'dropped' or m.episode_id is not null;
end;
$$;
comment on function alert.derive(bigint[], smallint[], alert.candidate[]) is
    'Episodes that a batch begins (no episode_id), extends or ends, for the given datastreams (pairwise '
    'arrays); state dropped: a pending one that cleared too soon. Changes nothing.';

create or replace function alert.tg_candidate__evaluate()
returns trigger
language plpgsql
-- the ingest role may append candidates but never touch an episode
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sensor_ids bigint[];
    v_metric_ids smallint[];
    v_batch alert.candidate[];
    v_outcomes alert.episode[];
    v_has_changed boolean;
    v_has_dropped boolean;
begin
    -- What no rule can care about falls out in alert.derive(): writers send hardly any of it.
    select array_agg(s.sensor_id), array_agg(s.metric_id)
    into v_sensor_ids, v_metric_ids
    from (
        select b.sensor_id, b.metric_id
        from batch as b
        group by b.sensor_id, b.metric_id
    ) as s;

    if v_sensor_ids is null then
        return null;
    end if;

    -- Two writers may hold readings of one cause; whoever comes second sees what the first decided.
    -- 256 buckets, not one lock a sensor: the server's lock table is finite.
    perform pg_advisory_xact_lock(7201, bucket.no)
    from (
        select distinct alert.bucket_of(s.sensor_id)::integer as no
        from unnest(v_sensor_ids) as s (sensor_id)
        order by 1
    ) as bucket;

    select array_agg(b) into v_batch from batch as b;

    select
        array_agg(o),
        bool_or(o.episode_id is not null and o.state <> 'dropped'),
        bool_or(o.state = 'dropped')
    into v_outcomes, v_has_changed, v_has_dropped
    from alert.derive(v_sensor_ids, v_metric_ids, v_batch) as o;

    if v_outcomes is null then
        return null;
    end if;

    -- alert.tg_episode__tell() does the rest: outbox, watch, bell. Updates first: with the watch held nobody
    -- must be waited for who decides about an alert.
    if v_has_changed then
        update alert.episode as e
        set state = o.state,
            opened_at = o.opened_at,
            last_at = o.last_at,
            evaluated_at = greatest(o.evaluated_at, e.evaluated_at),
            resolved_at = o.resolved_at,
            peak = o.peak,
            reading_count = o.reading_count
        from unnest(v_outcomes) as o
        where e.episode_id = o.episode_id and o.state <> 'dropped';
    end if;

    if v_has_dropped then
        delete from alert.episode as e
        using unnest(v_outcomes) as o
        where e.episode_id = o.episode_id and o.state = 'dropped';
    end if;

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
    return null;
end;
$$;
comment on function alert.tg_candidate__evaluate() is
    'Judges a batch of candidates and changes episodes.';

create or replace trigger _500_evaluate
after insert on alert.candidate
referencing new table as batch
for each statement execute function alert.tg_candidate__evaluate();
