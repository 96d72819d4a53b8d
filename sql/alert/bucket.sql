-- where: nodes
--
-- Sensors share versions and locks by buckets.

create or replace function alert.bucket_of(p_sensor_id bigint)
returns smallint
language sql
immutable
parallel safe
return (p_sensor_id & 255)::smallint;
comment on function alert.bucket_of(bigint) is
    'The bucket of alert.watch, and of the evaluation''s locks, that a sensor belongs to.';
