-- Signs of life of the processes that have no port of their own.

create table ops.heartbeat (
    process text not null,
    beaten_at timestamptz not null default now(),
    detail jsonb not null default '{}',
    constraint heartbeat_pkey primary key (process)
);
comment on table ops.heartbeat is
    'The last sign of life of each kind of process; /api/status calls it down when it is too old.';
