-- edition: citus
-- The book of groups of shards that move from node to node; app/cluster/move.py says how.

create table ops.shard_move (
    move_id bigint generated always as identity,
    shard_id bigint not null,
    source_node integer not null,
    target_node integer not null,
    state text not null default 'planned',
    planned_at timestamptz not null default now(),
    switched_at timestamptz,
    finished_at timestamptz,
    problem text,
    constraint shard_move_pkey primary key (move_id),
    constraint shard_move_nodes_check check (source_node <> target_node),
    constraint shard_move_state_check check (
        state in (
            'planned', 'fenced', 'copied', 'verified', 'switched', 'done', 'undoing', 'undone'
        )
    ),
    constraint shard_move_finished_check
        check ((state in ('done', 'undone')) = (finished_at is not null))
);
comment on table ops.shard_move is
    'One row a move of a group of shards. From fenced to verified nobody may write to the group; it lies '
    'with its source until the row says switched, which is committed together with the new place.';
comment on column ops.shard_move.shard_id is 'Number of the group: that of its readings'' shard.';
comment on column ops.shard_move.source_node is 'Citus'' number of the node it leaves.';
comment on column ops.shard_move.target_node is 'Citus'' number of the node it goes to.';
comment on column ops.shard_move.switched_at is 'When its new place began to count; null: not yet.';
comment on column ops.shard_move.problem is 'Why it was undone; null: it was not.';
create unique index shard_move_unfinished_key on ops.shard_move (shard_id)
    where finished_at is null;
comment on index ops.shard_move_unfinished_key is 'A group does one move at a time.';
