"""What a database is made of, one line a fact, so that two databases can be compared.

Left out: what belongs to an extension, its internal schemas, and everything that counts or dates
(oids, sequences' positions, statistics, the migrator's own timestamps).
"""

import re
from typing import Any, LiteralString

import psycopg

_OURS: LiteralString = """
    n.nspname !~ '^(pg_|_timescaledb|timescaledb_|toolkit_|citus|columnar|information_schema)'
    and not exists (
        select from pg_depend as d
        where d.classid = {catalogue}::regclass and d.objid = {object} and d.deptype = 'e'
    )
"""


def _ours(catalogue: LiteralString, oid: LiteralString) -> LiteralString:
    return _OURS.replace("{catalogue}", f"'{catalogue}'").replace("{object}", oid)


_RELATIONS = _ours("pg_class", "c.oid")
_SORTED_ACL: LiteralString = "(select array_agg(a::text order by a::text) from unnest({}) as a)"

FACTS: dict[str, LiteralString] = {
    "schema": f"""
        select n.nspname, n.nspowner::regrole, {_SORTED_ACL.replace("{}", "n.nspacl")},
            obj_description(n.oid)
        from pg_namespace as n where {_ours("pg_namespace", "n.oid")}""",
    "relation": f"""
        select n.nspname, c.relname, c.relkind, c.relowner::regrole, c.relpersistence,
            c.reloptions, c.relrowsecurity, {_SORTED_ACL.replace("{}", "c.relacl")},
            obj_description(c.oid, 'pg_class'),
            case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end
        from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
        where c.relkind not in ('t', 'i', 'I') and {_RELATIONS}""",
    "column": f"""
        select n.nspname, c.relname, a.attname, row_number() over (
                partition by c.oid order by a.attnum),
            format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
            a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid),
            {_SORTED_ACL.replace("{}", "a.attacl")}, col_description(c.oid, a.attnum)
        from pg_attribute as a
        join pg_class as c on c.oid = a.attrelid
        join pg_namespace as n on n.oid = c.relnamespace
        left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
        where a.attnum > 0 and not a.attisdropped and c.relkind not in ('t', 'i', 'I')
            and {_RELATIONS}""",
    "constraint": f"""
        select n.nspname, k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid),
            k.convalidated, obj_description(k.oid, 'pg_constraint')
        from pg_constraint as k join pg_namespace as n on n.oid = k.connamespace
        where {_ours("pg_constraint", "k.oid")}""",
    "index": f"""
        select n.nspname, pg_get_indexdef(c.oid), i.indisvalid, i.indisunique, c.reloptions,
            obj_description(c.oid, 'pg_class')
        from pg_index as i
        join pg_class as c on c.oid = i.indexrelid
        join pg_namespace as n on n.oid = c.relnamespace
        where {_RELATIONS}""",
    "function": f"""
        select n.nspname, p.oid::regprocedure, p.proowner::regrole, p.prokind, p.prosecdef,
            p.provolatile, p.proparallel, p.proleakproof, p.proisstrict, p.proconfig,
            pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
            md5(case when p.prokind = 'a' then p.prosrc else pg_get_functiondef(p.oid) end),
            {_SORTED_ACL.replace("{}", "p.proacl")}, obj_description(p.oid, 'pg_proc')
        from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
        where {_ours("pg_proc", "p.oid")}""",
    "trigger": f"""
        select pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger')
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        join pg_namespace as n on n.oid = c.relnamespace
        where not t.tgisinternal and {_RELATIONS}""",
    "type": f"""
        select n.nspname, t.typname, t.typtype, t.typowner::regrole,
            {_SORTED_ACL.replace("{}", "t.typacl")}, obj_description(t.oid, 'pg_type'),
            (select array_agg(e.enumlabel order by e.enumsortorder)
             from pg_enum as e where e.enumtypid = t.oid)
        from pg_type as t join pg_namespace as n on n.oid = t.typnamespace
        where t.typelem = 0 and {_ours("pg_type", "t.oid")}""",
    "policy": """
        select schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check
        from pg_policies""",
    "default privilege": f"""
        select d.defaclrole::regrole, n.nspname, d.defaclobjtype,
            {_SORTED_ACL.replace("{}", "d.defaclacl")}
        from pg_default_acl as d left join pg_namespace as n on n.oid = d.defaclnamespace""",
    "extension": "select extname, extversion from pg_extension",
    "database": f"""
        select {_SORTED_ACL.replace("{}", "datacl")} from pg_database
        where datname = current_database()""",
    "setting": """
        select setrole::regrole, setconfig from pg_db_role_setting
        where setdatabase = (select oid from pg_database where datname = current_database())""",
}

TIMESCALE: dict[str, LiteralString] = {
    "hypertable": """
        select hypertable_schema, hypertable_name, owner, num_dimensions, compression_enabled
        from timescaledb_information.hypertables where hypertable_schema !~ '^_timescaledb'""",
    "dimension": """
        select hypertable_schema, hypertable_name, column_name, column_type, time_interval,
            integer_interval, num_partitions
        from timescaledb_information.dimensions where hypertable_schema !~ '^_timescaledb'""",
    "continuous aggregate": """
        select view_schema, view_name, view_owner, materialized_only, view_definition
        from timescaledb_information.continuous_aggregates""",
    "job": """
        select proc_schema, proc_name, schedule_interval, scheduled, owner,
            config - 'mat_hypertable_id' - 'hypertable_id'
        from timescaledb_information.jobs where job_id >= 1000""",
}


# TimescaleDB numbers what it makes in the order it was made.
_NUMBERED = re.compile(r"(_materialized_hypertable_|cagg_watermark\()\d+")


def catalogue(url: str) -> list[str]:
    """Every fact, sorted."""
    lines: list[str] = []
    with psycopg.connect(url) as conn:
        conn.execute("set local search_path = pg_catalog")
        facts = dict(FACTS)
        if conn.execute("select 1 from pg_extension where extname = 'timescaledb'").fetchone():
            facts |= TIMESCALE
        for kind, statement in facts.items():
            rows: list[tuple[Any, ...]] = conn.execute(statement).fetchall()
            lines += [f"{kind}: {' | '.join(str(value) for value in row)}" for row in rows]
    return sorted(_NUMBERED.sub(r"\1N", line) for line in lines)
