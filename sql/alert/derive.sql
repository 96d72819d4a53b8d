-- requires: alert/follow.sql
-- requires: alert/judge.sql
-- requires: alert/rules_for.sql
-- requires: alert/stored.sql
-- where: shards
--
-- From a batch of candidates to what becomes of episodes.
--
-- While an excursion goes on it is an unresolved episode, so the common case needs the batch and that row
-- only. Readings that come late (older than one already judged) are judged again from the stored readings
-- around them: they may extend an episode or add a closed one, never duplicate one.
--
-- Few causes are concerned, and each is followed by itself: a statement for all, with its sixty nodes and
-- a dozen aggregates, took longer to set up and take down than to run.

drop function if exists alert.derive(bigint[], smallint[], alert.candidate[]);
drop function if exists alert.derive(alert.candidate[]);

create or replace function alert.derive(p_batch alert.candidate[])
returns alert.episode[]
language plpgsql
stable
-- making the plan anew costs more than the query
set plan_cache_mode = force_generic_plan
set search_path = pg_catalog, pg_temp
as $$
declare
    v_reading alert.candidate;
    -- of each datastream
    v_stream integer := 0;
    v_sensor_id bigint;
    v_metric_id smallint;
    v_sensor_ids bigint[];
    v_metric_ids smallint[];
    v_first_nos integer[];
    v_lowest double precision[];
    v_highest double precision[];
    -- of each cause
    v_found record;
    v_cause alert.episode;
    v_first integer;
    v_last integer;
    v_count integer := 0;
    v_causes alert.episode[];
    v_hysteresis double precision[];
    v_min_durations interval[];
    v_streams integer[];
    v_firsts integer[];
    v_lasts integer[];
    v_openings integer[];
    -- of each that may open an alert
    v_opening integer := 0;
    v_asked_sensor_ids bigint[];
    v_asked_metric_ids smallint[];
    v_asked_from timestamptz[];
    v_asked_counts bigint[];
    v_newest_at timestamptz;
    v_have_more boolean[];
    v_outcome alert.episode;
    v_outcomes alert.episode[] := '{}';
    v_outcome_count integer := 0;
begin
    for v_no in 1 .. cardinality(p_batch) loop
        v_reading := p_batch[v_no];
        if v_reading.sensor_id = v_sensor_id and v_reading.metric_id = v_metric_id then
            v_lowest[v_stream] := least(v_lowest[v_stream], v_reading.value);
            v_highest[v_stream] := greatest(v_highest[v_stream], v_reading.value);
        else
            v_sensor_id := v_reading.sensor_id;
            v_metric_id := v_reading.metric_id;
            v_stream := v_stream + 1;
            v_sensor_ids[v_stream] := v_sensor_id;
            v_metric_ids[v_stream] := v_metric_id;
            v_first_nos[v_stream] := v_no;
            v_lowest[v_stream] := v_reading.value;
            v_highest[v_stream] := v_reading.value;
        end if;
    end loop;
    -- the end of the last one
    v_first_nos[v_stream + 1] := cardinality(p_batch) + 1;

    for v_found in
        select
            r.no as stream,
            (
                e.episode_id, r.tenant_id, r.site_id, r.sensor_id, r.metric_id, r.threshold_id,
                r.severity, r.side, e.state, r.limit_value, e.opened_at, e.last_at, e.evaluated_at,
                e.resolved_at, e.peak, e.reading_count, null, null, null, null, null
            )::alert.episode as cause,
            r.hysteresis, r.min_duration
        from alert.rules_for(v_sensor_ids, v_metric_ids) as r
        left join alert.episode as e
            on e.sensor_id = r.sensor_id and e.metric_id = r.metric_id
            and e.severity = r.severity and e.side = r.side and e.state <> 'resolved'
        where e.episode_id is not null
            or alert.judge(
                case r.side when 'high' then v_highest[r.no] else v_lowest[r.no] end,
                r.side, r.limit_value, r.hysteresis
            ) = 1
    loop
        v_cause := v_found.cause;
        v_first := null;
        v_last := null;
        for v_no in v_first_nos[v_found.stream] .. v_first_nos[v_found.stream + 1] - 1 loop
            v_reading := p_batch[v_no];
            if alert.judge(v_reading.value, v_cause.side, v_cause.limit_value, v_found.hysteresis) = 1 then
                v_first := coalesce(v_first, v_no);
                v_last := v_no;
            end if;
        end loop;
        -- what is older than what was judged, and violates nothing, changes nothing
        continue when v_first is null and v_reading.ts <= v_cause.evaluated_at;

        v_count := v_count + 1;
        v_causes[v_count] := v_cause;
        v_hysteresis[v_count] := v_found.hysteresis;
        v_min_durations[v_count] := v_found.min_duration;
        v_streams[v_count] := v_found.stream;
        v_firsts[v_count] := v_first;
        v_lasts[v_count] := v_last;
        if v_cause.episode_id is null then
            v_opening := v_opening + 1;
            v_openings[v_count] := v_opening;
            v_asked_sensor_ids[v_opening] := v_cause.sensor_id;
            v_asked_metric_ids[v_opening] := v_cause.metric_id;
            v_asked_from[v_opening] := (p_batch[v_first]).ts;
            v_asked_counts[v_opening] := v_first_nos[v_found.stream + 1] - v_first;
            v_newest_at := greatest(v_newest_at, v_reading.ts);
        end if;
    end loop;

    -- an opening alert must know what is stored already; asked once for all
    if v_opening > 0 then
        v_have_more := alert.have_more_stored(
            v_asked_sensor_ids, v_asked_metric_ids, v_asked_from, v_asked_counts, v_newest_at
        );
    end if;

    for v_no in 1 .. v_count loop
        v_cause := v_causes[v_no];
        foreach v_outcome in array alert.follow(
            v_cause, v_hysteresis[v_no], v_min_durations[v_no],
            p_batch, v_first_nos[v_streams[v_no]], v_first_nos[v_streams[v_no] + 1] - 1,
            coalesce(
                v_have_more[v_openings[v_no]], (p_batch[v_firsts[v_no]]).ts <= v_cause.evaluated_at, false
            ),
            least((p_batch[v_firsts[v_no]]).ts, v_cause.opened_at),
            case when v_cause.episode_id is null then (p_batch[v_lasts[v_no]]).ts else 'infinity' end
        ) loop
            v_outcome_count := v_outcome_count + 1;
            v_outcomes[v_outcome_count] := v_outcome;
        end loop;
    end loop;
    return v_outcomes;
end;
$$;
comment on function alert.derive(alert.candidate[]) is
    'Episodes that a batch, ordered by datastream and time, begins (no episode_id), extends or ends; state '
    'dropped: a pending one that cleared too soon. Changes nothing.';
