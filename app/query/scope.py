"""Puts the caller's rows in the place of each view, in the tree of a checked statement."""

import msgspec
from sqlglot import exp

from app.query.names import folded, is_view
from app.query.words import TABLES

VIEWS = "tenant"
"""Schema of the views that show one tenant's rows."""
MOST_IDS = 1_000


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Whose rows: a tenant's, and its sensors where they are few enough to be named one by one."""

    tenant_id: int | None
    """None: every tenant."""
    sensor_ids: list[int] | None = None


def rewrite(tree: exp.Query, scope: Scope) -> exp.Query:
    """A copy with each table of the contract replaced by a sub-select of the scope's rows."""
    holder = exp.Subquery(this=tree.copy())
    for table in list(holder.find_all(exp.Table)):
        if isinstance(table.this, exp.Anonymous):
            _wrap_function(table)
        elif is_view(table):
            alias = table.args.get("alias")
            rows = exp.Subquery(this=_rows(table.name, scope))
            rows.set("alias", alias or exp.TableAlias(this=exp.to_identifier(table.name, True)))
            rows.set("joins", table.args.get("joins"))
            table.replace(rows)
    for unnest in list(holder.find_all(exp.Unnest)):
        _wrap_function(unnest)
    result = holder.this
    assert isinstance(result, exp.Query)
    return result


def _rows(view: str, scope: Scope) -> exp.Select:
    """The scope's rows of a view, as a tree."""
    columns = [exp.column(exp.to_identifier(name, True)) for name in TABLES[view]]
    rows = exp.select(*columns).from_(exp.table_(view, db=VIEWS, quoted=True))
    if scope.tenant_id is None or view == "metric":
        return rows
    if "tenant_id" in TABLES[view]:
        return rows.where(_tenant_is(scope.tenant_id))
    mine: exp.Expr
    if scope.sensor_ids is None:
        mine = exp.In(
            this=_quoted("sensor_id"),
            query=exp.Subquery(
                this=exp.select(_quoted("sensor_id"))
                .from_(exp.table_("sensor", db=VIEWS, quoted=True))
                .where(_tenant_is(scope.tenant_id))
            ),
        )
    else:
        # named one by one, so that the plan can use the index, below the views' own filter
        ids = "{" + ",".join(str(int(number)) for number in scope.sensor_ids) + "}"
        array = exp.Cast(
            this=exp.Literal.string(ids), to=exp.DataType.build("bigint[]", dialect="postgres")
        )
        mine = exp.EQ(this=_quoted("sensor_id"), expression=exp.Any(this=exp.Paren(this=array)))
    return rows.where(mine)


def _quoted(column: str) -> exp.Column:
    return exp.column(exp.to_identifier(column, True))


def _tenant_is(tenant_id: int) -> exp.EQ:
    return exp.EQ(this=_quoted("tenant_id"), expression=exp.Literal.number(tenant_id))


def _wrap_function(call: exp.Expr) -> None:
    """A function in FROM becomes a sub-select, so that its alias is a row, never a bare value.

    PostgreSQL takes `g.f` for `f(g)` where g has no column f: with a bare value that would call functions
    that no list has seen.
    """
    within = call.parent if isinstance(call.parent, exp.Lateral) else call
    alias = within.args.get("alias")
    if alias is None:
        name = call.this.this if isinstance(call.this, exp.Anonymous) else "unnest"
        alias = exp.TableAlias(this=exp.to_identifier(folded(str(name)), True))
    joins = within.args.get("joins")
    inner = call.copy()
    inner.set("alias", alias.copy())
    inner.set("joins", None)
    rows = exp.Subquery(this=exp.select(exp.Star()).from_(inner))
    outer = exp.TableAlias(this=alias.this.copy())
    lateral = exp.Lateral(this=rows, alias=outer)
    lateral.set("joins", joins)
    within.replace(lateral)
