-- requires: edition/citus/shard.sql, edition/*/rollup.sql, archive/range.sql
-- apply: once
-- version: 1
-- where: shards
-- role: superuser
--
-- A group that was moved here brings its rollups as they were. They are taken over, not computed anew: of
-- cold ranges they are all there is, and the group is away for a shorter time. What is taken ends where
-- a refresh would have ended now. Community: refreshing starts behind everything cold, and since a new
-- continuous aggregate counts as outdated everywhere, its policy goes over the hot rest by itself.
-- Only a superuser may say how far TimescaleDB's aggregate is filled.

do $$
declare
    v_is_stored constant boolean := to_regclass('telemetry.rollup_1m_stored') is not null;
    v_hot_from constant timestamptz := archive.hot_from();
    v_rollup record;
    v_table text;
    v_hypertable_id integer;
    v_until timestamptz;
    v_count bigint;
begin
    for v_rollup in
        select *
        from (
            values
                ('telemetry.rollup_1m', 'rollup_1m_arrived', '1m', 'minute', interval '1 minute'),
                ('telemetry.rollup_1h', 'rollup_1h_arrived', '1h', 'hour', interval '1 hour'),
                ('telemetry.rollup_1d', 'rollup_1d_arrived', '1d', 'day', interval '1 day')
        ) as r (name, arrived, short, unit, width)
    loop
        if v_is_stored then
            v_until := date_trunc(v_rollup.unit, now() - interval '1 minute', 'UTC');
            v_table := case v_rollup.short
                when '1m' then 'telemetry.rollup_1m_stored'
                when '1h' then 'telemetry.rollup_1h_stored'
                else 'telemetry.rollup_1d_stored'
            end;
        else
            v_until := time_bucket(v_rollup.width, now() - v_rollup.width);
            select format('%I.%I', h.schema_name, h.table_name), h.id
            into strict v_table, v_hypertable_id
            from _timescaledb_catalog.continuous_agg as c
            join _timescaledb_catalog.hypertable as h on h.id = c.mat_hypertable_id
            where format('%s.%s', c.user_view_schema, c.user_view_name) = v_rollup.name;
            perform alter_job(
                j.job_id,
                config => jsonb_set(j.config, '{start_offset}', to_jsonb((now() - v_hot_from)::text))
            )
            from timescaledb_information.jobs as j
            where (j.config ->> 'mat_hypertable_id')::integer = v_hypertable_id
                and v_hot_from is not null;
        end if;

        execute format(
            'insert into %s (sensor_id, metric_id, bucket, n, value_avg, value_min, value_max, '
            'value_sum, value_sum_sq, value_first, value_last, n_suspect, n_fail) '
            'select a.sensor_id, a.metric_id, a.bucket, a.n, a.value_avg, a.value_min, a.value_max, '
            'a.value_sum, a.value_sum_sq, a.value_first, a.value_last, a.n_suspect, a.n_fail '
            'from telemetry.%I as a where a.bucket < $1',
            v_table, v_rollup.arrived
        ) using v_until;
        get diagnostics v_count = row_count;
        -- a group that was never filled begins as a new one does
        if v_count > 0 then
            if v_is_stored then
                update telemetry.rollup_watermark as w
                set materialised_until = v_until where w.rollup = v_rollup.short;
            else
                execute format('select max(bucket) + $1 from %s', v_table)
                into v_until using v_rollup.width;
                update _timescaledb_catalog.continuous_aggs_watermark as w
                set watermark = _timescaledb_functions.to_unix_microseconds(v_until)
                where w.mat_hypertable_id = v_hypertable_id;
            end if;
        end if;
        execute format('drop table telemetry.%I', v_rollup.arrived);
    end loop;
end
$$;
