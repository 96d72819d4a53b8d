-- edition: citus
-- The book of nodes that are away while groups of shards move; app/cluster/away.py says how.

create table ops.node_aside (
    node integer not null,
    since timestamptz not null default now(),
    constraint node_aside_pkey primary key (node)
);
comment on table ops.node_aside is
    'Nodes that were away when something changed about the cluster, and are told of it when they are back: '
    'nothing moves to them or from them until then.';
comment on column ops.node_aside.node is 'Citus'' number of the node.';
comment on column ops.node_aside.since is 'When Citus ceased to tell it of changes.';
