-- apply: once
-- version: 1
-- where: shards
--
-- A group of shards before anything else is made on it: hypertable, numbers, the writers' memory. Also
-- for one that was moved here and holds readings already.

-- with a group that was moved its rollups come as tables; carry.sql takes what is in them
alter table telemetry.rollup_1d rename to rollup_1d_arrived;
alter table telemetry.rollup_1h rename to rollup_1h_arrived;
alter table telemetry.rollup_1m rename to rollup_1m_arrived;

select create_hypertable(
    'telemetry.reading', by_range('ts', interval '1 day'), create_default_indexes => false,
    migrate_data => true
);

-- 2^36 numbers a group; with 2^16 groups they still are whole numbers of a double, as JSON has them
create sequence alert.shard_number;
comment on sequence alert.shard_number is
    'Numbers of the group''s episodes and events, unlike those of any other group.';
do $$
declare
    v_first bigint;
begin
    select (
        select count(*)
        from pg_catalog.pg_dist_shard as before
        where before.logicalrelid = s.logicalrelid
            and before.shardminvalue::integer <= s.shardminvalue::integer
    ) * 68719476736
    into strict v_first
    from pg_catalog.pg_dist_shard as s
    where s.shardid = substring('telemetry.reading' from '\d+$')::bigint;
    perform setval(
        'alert.shard_number',
        greatest(
            v_first,
            (select max(e.episode_id) from alert.episode as e),
            (select max(o.outbox_id) from alert.outbox as o)
        )
    );
end
$$;
alter table alert.episode
    alter column episode_id set default nextval('alert.shard_number');
alter table alert.outbox
    alter column outbox_id set default nextval('alert.shard_number');
alter table telemetry.ingest_log
    alter column ingest_log_id set default nextval('alert.shard_number');

create table alert.watch (
    bucket smallint not null,
    version bigint not null,
    primary key (bucket)
) with (fillfactor = 50);
comment on table alert.watch is
    'The group''s versions of what writers remember; they begin with the clock, so that a group that was '
    'moved never shows an old one.';
insert into alert.watch (bucket, version)
select b, (extract(epoch from clock_timestamp()) * 1000)::bigint
from generate_series(-1, 255) as b;
