-- requires: alert/judge.sql
-- requires: alert/rules_for.sql
-- requires: alert/stored.sql
-- where: shards
--
-- From a batch of candidates to what becomes of episodes.
--
-- An excursion of a cause (sensor, metric, severity, side) goes from its first violating reading to
-- the next clear one, by the readings' own times; it is an alert once a violating reading is at least
-- min_duration younger than the first. While an excursion goes on it is an unresolved episode, so the
-- common case needs the batch and that row only. Readings that come late (older than one already
-- judged) are judged again from the stored readings around them: they may extend an episode or add a
-- closed one, never duplicate one.

drop function if exists alert.derive(bigint[], smallint[], alert.candidate[]);

create or replace function alert.derive(p_batch alert.candidate[])
returns setof alert.episode
language plpgsql
stable
-- plpgsql, because it keeps the plan: making it anew costs more than the query
set plan_cache_mode = force_generic_plan
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with stream as (
        select b.sensor_id, b.metric_id, array_agg(b) as readings, max(b.ts) as newest_at
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
            s.readings, s.newest_at, v.first_violation, v.last_violation
        from (
            select array_agg(s.sensor_id) as sensor_ids, array_agg(s.metric_id) as metric_ids
            from stream as s
        ) as a
        cross join lateral alert.rules_for(a.sensor_ids, a.metric_ids) as r
        join stream as s on s.sensor_id = r.sensor_id and s.metric_id = r.metric_id
        cross join lateral (
            select min(b.ts) as first_violation, max(b.ts) as last_violation
            from unnest(s.readings) as b
            where alert.judge(b.value, r.side, r.limit_value, r.hysteresis) = 1
        ) as v
        left join alert.episode as e
            on e.sensor_id = r.sensor_id and e.metric_id = r.metric_id
            and e.severity = r.severity and e.side = r.side and e.state <> 'resolved'
        where e.episode_id is not null or v.first_violation is not null
    ),
    -- asked once for all
    opening as materialized (
        select alert.have_more_stored(
            array_agg(c.sensor_id order by c.cause_no),
            array_agg(c.metric_id order by c.cause_no),
            array_agg(case when c.episode_id is null then c.first_violation end order by c.cause_no),
            array_agg(
                (select count(*) from unnest(c.readings) as b where b.ts >= c.first_violation)
                order by c.cause_no
            ),
            max(c.newest_at)
        ) as have_more
        from cause as c
    ),
    touched as materialized (
        select
            c.*,
            case
                when c.episode_id is null then o.have_more[c.cause_no]
                else coalesce(c.first_violation <= c.evaluated_at, false)
            end as is_late
        from cause as c
        cross join opening as o
    ),
    -- what to go through, in order of time
    material as (
        select t.cause_no, m.*
        from touched as t
        cross join lateral (
            -- an unresolved episode goes on from what it has come to
            select t.opened_at as first_ts, t.last_at as ts, t.peak as value, t.reading_count, 1 as judgement
            where t.episode_id is not null and not t.is_late
            union all
            select
                b.ts, b.ts, b.value, 1,
                alert.judge(b.value, t.side, t.limit_value, t.hysteresis)
            from unnest(t.readings) as b
            where not t.is_late
                and (b.ts > t.evaluated_at or (t.episode_id is null and b.ts >= t.first_violation))
            union all
            select r.ts, r.ts, r.value, 1, r.judgement
            from alert.stored_around(
                t.sensor_id, t.metric_id, least(t.first_violation, t.opened_at),
                case when t.episode_id is null then t.last_violation else 'infinity' end,
                t.side, t.limit_value, t.hysteresis
            ) as r
            where t.is_late
        ) as m
    ),
    -- every clear reading ends a stretch
    numbered as (
        select
            m.*,
            count(*) filter (where m.judgement = -1) over (
                partition by m.cause_no order by m.ts
                rows between unbounded preceding and 1 preceding
            ) as stretch_no
        from material as m
    ),
    stretch as (
        select
            n.cause_no, n.stretch_no,
            min(n.first_ts) filter (where n.judgement = 1) as opened_at,
            max(n.ts) filter (where n.judgement = 1) as last_at,
            max(n.value) filter (where n.judgement = 1) as highest,
            min(n.value) filter (where n.judgement = 1) as lowest,
            sum(n.reading_count) filter (where n.judgement = 1) as reading_count,
            max(n.ts) as evaluated_at,
            max(n.ts) filter (where n.judgement = -1) as cleared_at
        from numbered as n
        group by n.cause_no, n.stretch_no
        having bool_or(n.judgement = 1)
    ),
    excursion as (
        select
            s.*,
            case
                when t.is_late then overlapping.episode_id
                when s.stretch_no = 0 then t.episode_id
            end as episode_id
        from stretch as s
        join touched as t on t.cause_no = s.cause_no
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
    ),
    -- late clear readings do not split an episode that people know as one
    merged as (
        select
            x.cause_no, x.episode_id,
            min(x.opened_at) as opened_at,
            max(x.last_at) as last_at,
            max(x.highest) as highest,
            min(x.lowest) as lowest,
            sum(x.reading_count)::bigint as reading_count,
            max(x.evaluated_at) as evaluated_at,
            -- the last one may go on
            case when count(x.cleared_at) = count(*) then max(x.cleared_at) end as cleared_at
        from excursion as x
        group by x.cause_no, x.episode_id, case when x.episode_id is null then x.stretch_no end
    )
    select
        m.episode_id, t.tenant_id, t.site_id, t.sensor_id, t.metric_id, t.threshold_id, t.severity,
        t.side, v.state, t.limit_value, m.opened_at, m.last_at, m.evaluated_at,
        case
            when v.state = 'resolved' then coalesce(greatest(m.cleared_at, e.resolved_at), m.evaluated_at)
        end,
        case t.side when 'high' then m.highest else m.lowest end,
        m.reading_count, null::timestamptz, null::timestamptz, null::text, null::text, null::text
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
comment on function alert.derive(alert.candidate[]) is
    'Episodes that a batch begins (no episode_id), extends or ends; state dropped: a pending one that '
    'cleared too soon. Changes nothing.';
