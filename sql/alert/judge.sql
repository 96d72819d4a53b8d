-- where: nodes
-- One value against one limit.

create or replace function alert.judge(
    p_value double precision,
    p_side text,
    p_limit_value double precision,
    p_hysteresis double precision
)
returns integer
language sql
immutable
parallel safe
return case
    when p_side = 'high' and p_value > p_limit_value then 1
    when p_side = 'low' and p_value < p_limit_value then 1
    when p_side = 'high' and p_value <= p_limit_value - p_hysteresis then -1
    when p_side = 'low' and p_value >= p_limit_value + p_hysteresis then -1
    else 0
end;
comment on function alert.judge(double precision, text, double precision, double precision) is
    '1: violates the limit; -1: clear; 0: between, which leaves an alert as it is.';
