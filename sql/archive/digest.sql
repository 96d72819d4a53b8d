-- The proof: what PostgreSQL and DuckDB must both find in the same readings. Only IEEE arithmetic and
-- whole numbers, so that both come to the same digits; app/archive/digest.py has DuckDB's half.

create or replace function archive.fingerprint(
    p_ts timestamptz, p_metric_id smallint, p_value double precision, p_quality smallint
)
returns bigint
language sql
stable -- as date_part() is, or the planner could not put the expression in place of the call
parallel safe
-- All 53 bits of a product with the value, by a factor that fits its size: the whole part and the
-- fraction, each as a number below 2^31, times a weight from time, metric and flag below 2^27.
return (
    case
        when abs(p_value) >= 0.00048828125 and abs(p_value) < 524288 then
            1 + floor(p_value * 8589934592.7182818)::bigint % 2147483647
            + 3 * floor(
                (p_value * 8589934592.7182818 - floor(p_value * 8589934592.7182818)) * 2147483648.0
            )::bigint
        when abs(p_value) < 0.00048828125 then
            2 + floor(p_value * 1.5795e18::double precision)::bigint % 2147483647
            + 3 * floor(
                (
                    p_value * 1.5795e18::double precision
                    - floor(p_value * 1.5795e18::double precision)
                ) * 2147483648.0
            )::bigint
        when abs(p_value) < 1e15 then
            3 + floor(p_value * 1021.314159)::bigint % 2147483647
            + 3 * floor(
                (p_value * 1021.314159 - floor(p_value * 1021.314159)) * 2147483648.0
            )::bigint
        else 5
    end
) * (
    (
        (date_part('epoch', p_ts) * 1e6::double precision)::bigint
        + p_metric_id * 7919 + p_quality * 104729
    ) % 134217689
);
comment on function archive.fingerprint(timestamptz, smallint, double precision, smallint) is
    'A number that another time, metric, value or flag would change; summed up it is a checksum that '
    'does not depend on order.';

create or replace function archive.digest(p_from timestamptz, p_to timestamptz)
returns table (
    sensor_id bigint, row_count bigint, first_ts timestamptz, last_ts timestamptz,
    value_sum double precision, value_abs_sum double precision, checksum numeric
)
language sql
stable
begin atomic
    select
        r.sensor_id, count(*), min(r.ts), max(r.ts), sum(r.value), sum(abs(r.value)),
        sum(archive.fingerprint(r.ts, r.metric_id, r.value, r.quality))
    from telemetry.reading as r
    where r.ts >= p_from and r.ts < p_to
    group by r.sensor_id;
end;
comment on function archive.digest(timestamptz, timestamptz) is
    'Digest of the hot readings in [p_from, p_to), a row a sensor.';
