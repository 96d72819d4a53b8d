"""PostgreSQL's meanings that DuckDB lacks or has otherwise, as DuckDB macros.

translate.py calls them; nobody else can, because their names are on no allow-list. `tests/integration/
test_sql_cold.py` compares both engines.
"""

MACROS = (
    # a whole bigint's sum is numeric, so dividing it leaves a fraction; smaller ones stay whole
    """
    create macro hw_summand
        (x smallint) as x, (x integer) as x, (x bigint) as cast(x as decimal(38, 0)),
        (x hugeint) as cast(x as decimal(38, 0)), (x double) as x, (x interval) as x
    """,
    # no error(): that is volatile, and would make one expression two in GROUP BY
    """
    create macro hw_divisor(x) as case
        when x = 0 then cast(concat('division by zero: ', x) as tinyint) else x
    end
    """,
    "create macro hw_number(x) as case when isnan(x) then null else x end",
    "create macro hw_round(x) as round_even(cast(x as double), 0)",
    # half away from zero in the decimal digits that are shown, not in the binary ones
    """
    create macro hw_round_to(x, n) as coalesce(
        cast(round(try_cast(cast(x as varchar) as decimal(38, 15)), n) as double),
        round(cast(x as double), n)
    )
    """,
    """
    create macro hw_float_text(x) as case
        when isnan(x) then 'NaN'
        when isinf(x) then case when x > 0 then 'Infinity' else '-Infinity' end
        when abs(x) >= 1e15 and abs(x) < 1e16 then regexp_replace(printf('%.15e', x), '\\.?0*e', 'e')
        else regexp_replace(cast(x as varchar), '\\.0$', '')
    end
    """,
    """
    create macro hw_text(x) as case
        when typeof(x) in ('DOUBLE', 'FLOAT') then
            hw_float_text(try_cast(cast(x as varchar) as double))
        when typeof(x) like '%[]' or typeof(x) like 'STRUCT%' then
            cast(cast(concat('no text of a list or row: ', cast(x as varchar)) as tinyint) as varchar)
        else cast(x as varchar)
    end
    """,
    # as a type's output function, not as a cast
    """
    create macro hw_shown(x) as case
        when typeof(x) = 'BOOLEAN' then left(cast(x as varchar), 1) else hw_text(x)
    end
    """,
    """
    create macro hw_width_bucket(x, low, high, n) as case
        when low = high or n < 1 then cast(concat('width_bucket between ', low, ' and ', high) as tinyint)
        when low < high and x < low or low > high and x > low then 0
        when low < high and x >= high or low > high and x <= high then n + 1
        else least(
            cast(floor(n * ((cast(x as double) - low) / (cast(high as double) - low))) as integer),
            n - 1
        ) + 1
    end
    """,
    """
    create macro hw_justify_hours(x) as
        to_months(cast(datepart('year', x) * 12 + datepart('month', x) as integer))
        + to_days(cast(datepart('day', x) + datepart('hour', x) // 24 as integer))
        + to_microseconds(
            (datepart('hour', x) % 24) * 3600000000 + datepart('minute', x) * 60000000
            + datepart('microsecond', x)
        )
    """,
)
