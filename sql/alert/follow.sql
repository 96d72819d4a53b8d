-- requires: alert/judge.sql
-- requires: alert/stored.sql
-- where: shards
--
-- One cause (sensor, metric, severity, side) and its readings: what becomes of its episodes.
--
-- An excursion goes from its first violating reading to the next clear one, by the readings' own times; it
-- is an alert once a violating reading is at least min_duration younger than the first.

create or replace function alert.follow(
    p_cause alert.episode,
    p_hysteresis double precision,
    p_min_duration interval,
    p_batch alert.candidate[],
    p_first_no integer,
    p_last_no integer,
    p_is_late boolean,
    p_from timestamptz,
    p_to timestamptz
)
returns alert.episode[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_side constant text := p_cause.side;
    v_limit constant double precision := p_cause.limit_value;
    v_evaluated_at timestamptz := p_cause.evaluated_at;
    v_stored alert.candidate[];
    v_first_no integer := p_first_no;
    v_last_no integer := p_last_no;
    v_ts timestamptz;
    v_value double precision;
    v_judgement integer;
    -- the excursion, if there is one; an unresolved episode goes on from what it has come to
    v_opened_at timestamptz;
    v_last_at timestamptz := p_cause.last_at;
    v_peak double precision := p_cause.peak;
    v_reading_count bigint := p_cause.reading_count;
    -- its episode, if there is one
    v_known_id bigint := p_cause.episode_id;
    v_known_state text := p_cause.state;
    v_known_resolved_at timestamptz;
    v_is_raised boolean;
    v_state text;
    v_outcomes alert.episode[] := '{}';
    v_count integer := 0;
begin
    if p_is_late then
        v_stored := array(
            select (p_cause.sensor_id, r.ts, r.value, p_cause.metric_id)::alert.candidate
            from alert.stored_around(
                p_cause.sensor_id, p_cause.metric_id, p_from, p_to, v_side, v_limit, p_hysteresis
            ) as r
            order by r.ts
        );
        v_first_no := 1;
        v_last_no := cardinality(v_stored);
    else
        v_opened_at := p_cause.opened_at;
    end if;

    -- one beyond the last: an excursion that goes on ends there, too
    for v_no in v_first_no .. v_last_no + 1 loop
        if v_no > v_last_no then
            continue when v_opened_at is null;
            v_ts := null;
        else
            if p_is_late then
                v_ts := (v_stored[v_no]).ts;
                v_value := (v_stored[v_no]).value;
            else
                v_ts := (p_batch[v_no]).ts;
                v_value := (p_batch[v_no]).value;
                continue when v_ts <= p_cause.evaluated_at;
            end if;
            v_judgement := alert.judge(v_value, v_side, v_limit, p_hysteresis);
            if v_judgement = 1 then
                if v_opened_at is null then
                    v_opened_at := v_ts;
                    v_peak := v_value;
                    v_reading_count := 0;
                elsif v_side = 'high' then
                    v_peak := greatest(v_peak, v_value);
                else
                    v_peak := least(v_peak, v_value);
                end if;
                v_last_at := v_ts;
                v_reading_count := v_reading_count + 1;
            end if;
            continue when v_opened_at is null;
            v_evaluated_at := v_ts;
            continue when v_judgement <> -1;
        end if;

        if p_is_late then
            select e.episode_id, e.state, e.resolved_at
            into v_known_id, v_known_state, v_known_resolved_at
            from alert.episode as e
            where e.sensor_id = p_cause.sensor_id and e.metric_id = p_cause.metric_id
                and e.severity = p_cause.severity and e.side = v_side
                and e.opened_at < coalesce(v_ts, 'infinity')
                and coalesce(e.resolved_at, 'infinity') > v_opened_at
            order by e.opened_at
            limit 1;
            if v_known_id = v_outcomes[v_count].episode_id then
                -- late clear readings do not split an episode that people know as one
                v_opened_at := v_outcomes[v_count].opened_at;
                v_reading_count := v_reading_count + v_outcomes[v_count].reading_count;
                v_peak := case v_side
                    when 'high' then greatest(v_peak, v_outcomes[v_count].peak)
                    else least(v_peak, v_outcomes[v_count].peak)
                end;
                v_count := v_count - 1;
            end if;
        end if;
        v_is_raised := coalesce(v_known_state <> 'pending', false)
            or v_last_at - v_opened_at >= p_min_duration;
        v_state := case
            when v_known_state = 'resolved' then 'resolved'
            when v_ts is not null then case when v_is_raised then 'resolved' else 'dropped' end
            when not v_is_raised then 'pending'
            when v_known_state in ('acknowledged', 'investigating') then v_known_state
            else 'open'
        end;
        if v_state <> 'dropped' or v_known_id is not null then
            v_count := v_count + 1;
            v_outcomes[v_count] := (
                v_known_id, p_cause.tenant_id, p_cause.site_id, p_cause.sensor_id, p_cause.metric_id,
                p_cause.threshold_id, p_cause.severity, v_side, v_state, v_limit, v_opened_at, v_last_at,
                v_evaluated_at,
                case
                    when v_state = 'resolved'
                        then coalesce(greatest(v_ts, v_known_resolved_at), v_evaluated_at)
                end,
                v_peak, v_reading_count, null, null, null, null, null
            )::alert.episode;
        end if;
        v_opened_at := null;
        v_known_id := null;
        v_known_state := null;
    end loop;
    return v_outcomes[:v_count];
end;
$$;
comment on function alert.follow(
    alert.episode, double precision, interval, alert.candidate[], integer, integer, boolean,
    timestamptz, timestamptz
) is
    'What readings p_first_no to p_last_no of a batch make of a cause''s episodes, as alert.derive returns '
    'it. p_cause: cause and limit, with its unresolved episode if there is one; p_is_late: judge instead '
    'what is stored around p_from to p_to.';
