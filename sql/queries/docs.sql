-- name: dictionary_schemas
select n.nspname as schema, coalesce(obj_description(n.oid, 'pg_namespace'), '') as comment
from pg_catalog.pg_namespace as n
where n.nspname in ('identity', 'telemetry', 'alert', 'analytics', 'ops', 'quality', 'archive', 'tenant')
order by n.nspname;

-- name: dictionary_relations
select
    n.nspname as schema, c.relname as name,
    case
        when exists (
            select
            from pg_catalog.pg_inherits as i
            join pg_catalog.pg_class as k on k.oid = i.inhrelid
            where i.inhparent = c.oid
        ) or exists (
            select
            from timescaledb_information.hypertables as h
            where h.hypertable_schema = n.nspname and h.hypertable_name = c.relname
        ) then 'hypertable'
        when exists (
            select
            from timescaledb_information.continuous_aggregates as a
            where a.view_schema = n.nspname and a.view_name = c.relname
        ) then 'continuous aggregate'
        when c.relkind in ('v', 'm') then 'view'
        when c.relkind = 'c' then 'type'
        when c.relpersistence = 'u' then 'unlogged table'
        else 'table'
    end as kind,
    coalesce(
        obj_description(c.oid, 'pg_class'), obj_description(c.reltype, 'pg_type'), ''
    ) as comment
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = any(%(schemas)s::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'c', 'f')
order by n.nspname, c.relname;

-- name: dictionary_columns
select
    n.nspname as schema, c.relname as relation, a.attname as name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as is_not_null,
    case
        when a.attidentity <> '' then 'identity'
        else coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
    end as default,
    coalesce(pg_catalog.col_description(c.oid, a.attnum), '') as comment
from pg_catalog.pg_attribute as a
join pg_catalog.pg_class as c on c.oid = a.attrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
where n.nspname = any(%(schemas)s::text[])
    and c.relkind in ('r', 'p', 'v', 'm', 'c', 'f')
    and a.attnum > 0
    and not a.attisdropped
order by n.nspname, c.relname, a.attnum;

-- name: dictionary_rules
select n.nspname as schema, c.relname as relation, r.name, r.definition
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
cross join lateral (
    select 1 as rank, k.conname as name, pg_catalog.pg_get_constraintdef(k.oid) as definition
    from pg_catalog.pg_constraint as k
    where k.conrelid = c.oid and k.contype in ('p', 'u', 'c', 'f', 'x')
    union all
    select
        2, i.relname,
        regexp_replace(
            pg_catalog.pg_get_indexdef(i.oid), '^CREATE (UNIQUE )?INDEX .* USING (.*)$', '\1index \2'
        )
    from pg_catalog.pg_index as x
    join pg_catalog.pg_class as i on i.oid = x.indexrelid
    where x.indrelid = c.oid
        and not exists (select from pg_catalog.pg_constraint as k where k.conindid = i.oid)
    union all
    select
        3, t.tgname,
        regexp_replace(
            pg_catalog.pg_get_triggerdef(t.oid), '^CREATE TRIGGER \S+ (.*) ON \S+ (.*)$', '\1 \2'
        )
    from pg_catalog.pg_trigger as t
    where t.tgrelid = c.oid and not t.tgisinternal and t.tgname !~ '^ts_'
) as r
where n.nspname = any(%(schemas)s::text[]) and c.relkind in ('r', 'p', 'm')
order by n.nspname, c.relname, r.rank, r.name;

-- name: dictionary_routines
select
    n.nspname as schema, p.proname as name,
    pg_catalog.pg_get_function_identity_arguments(p.oid) as arguments,
    case when p.prokind = 'p' then 'procedure' else 'function' end as kind,
    coalesce(pg_catalog.pg_get_function_result(p.oid), '') as result,
    p.prosecdef as is_security_definer,
    coalesce(obj_description(p.oid, 'pg_proc'), '') as comment
from pg_catalog.pg_proc as p
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
where n.nspname = any(%(schemas)s::text[])
order by n.nspname, p.proname, arguments;

-- name: dictionary_roles
select r.rolname as role, coalesce(shobj_description(r.oid, 'pg_authid'), '') as comment
from pg_catalog.pg_roles as r
where r.rolname like 'headwater\_%%'
order by r.rolname;

-- name: dictionary_grants
with granted as (
    -- text, or else the names below would be cut at 63 characters
    select n.nspname as schema, ''::text as name, a.grantee, a.privilege_type, n.nspowner as owner
    from pg_catalog.pg_namespace as n
    cross join lateral aclexplode(n.nspacl) as a
    union all
    select n.nspname, c.relname, a.grantee, a.privilege_type, c.relowner
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    cross join lateral aclexplode(c.relacl) as a
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
    union all
    select
        n.nspname, c.relname, a.grantee, a.privilege_type || ' (' || t.attname || ')', c.relowner
    from pg_catalog.pg_attribute as t
    join pg_catalog.pg_class as c on c.oid = t.attrelid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    cross join lateral aclexplode(t.attacl) as a
    union all
    select
        n.nspname, p.proname || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')',
        a.grantee, a.privilege_type, p.proowner
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
    cross join lateral aclexplode(p.proacl) as a
)
select
    g.schema, g.name, case when g.grantee = 0 then 'public' else r.rolname end as role,
    string_agg(distinct lower(g.privilege_type), ', ' order by lower(g.privilege_type)) as privileges
from granted as g
left join pg_catalog.pg_roles as r on r.oid = g.grantee
where g.schema = any(%(schemas)s::text[])
    and g.grantee <> g.owner
    and (g.grantee = 0 or r.rolname like 'headwater\_%%')
group by g.schema, g.name, role
order by g.schema, g.name, role;
