"""What the SQL of people may be made of: allow-lists, never deny-lists.

Whatever is not named here is refused, so a new version of the server or of the parser can add nothing
that nobody looked at. Functions are the server's own (and TimescaleDB's) that only compute from their
arguments; those that make big values of small ones (`repeat`, `lpad`, `format`, `array_fill`) are left
out.
"""

from sqlglot import exp

TABLES: dict[str, tuple[str, ...]] = {
    "sensor": (
        *("sensor_id", "tenant", "sensor", "title", "status", "expected_interval", "site"),
        *("site_title", "region", "latitude", "longitude", "tenant_id", "site_id"),
    ),
    "site": (
        *("site_id", "tenant", "site", "title", "region", "latitude", "longitude", "tenant_id"),
    ),
    "metric": (
        *("metric_id", "metric", "title", "unit", "plausible_min", "plausible_max"),
        *("usgs_parameter", "wqx_characteristic"),
    ),
    "reading": ("ts", "sensor_id", "metric_id", "value", "quality"),
    "latest": (
        *("tenant", "sensor", "site", "region", "metric", "ts", "value", "unit", "quality"),
        *("sensor_id", "metric_id", "tenant_id"),
    ),
    "alert": (
        *("episode_id", "tenant", "sensor", "site", "region", "metric", "unit", "severity", "side"),
        *("state", "limit_value", "peak", "opened_at", "last_at", "resolved_at", "reading_count"),
        *("acknowledged_at", "acknowledged_by", "resolved_by", "note", "created_at", "sensor_id"),
        *("metric_id", "tenant_id"),
    ),
} | dict.fromkeys(
    ("reading_1m", "reading_1h", "reading_1d"),
    (
        *("sensor_id", "metric_id", "bucket", "n", "value_avg", "value_min", "value_max"),
        *("value_sum", "value_sum_sq", "value_first", "value_last", "n_suspect", "n_fail"),
    ),
)
"""The contract: its views and their columns, in order. `select *` means these."""

SCHEMAS = ("analytics", "tenant")
"""Where the views are; in a person's SQL both mean the caller's rows."""

_FUNCTIONS = """
    any_value array_agg avg bit_and bit_or bool_and bool_or corr count covar_pop covar_samp every
    grouping max min mode percentile_cont percentile_disc regr_avgx regr_avgy regr_count
    regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp
    string_agg sum var_pop var_samp variance json_agg jsonb_agg json_object_agg jsonb_object_agg
    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank
    row_number coalesce nullif greatest least num_nulls num_nonnulls abs acos asin atan atan2 cbrt
    ceil ceiling cos cosh cot degrees div exp floor gcd lcm ln log log10 mod pi power radians random
    round scale sign sin sinh sqrt tan tanh trunc width_bucket ascii btrim char_length
    character_length chr concat concat_ws initcap left length lower ltrim md5 octet_length overlay
    position regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace
    regexp_split_to_array regexp_split_to_table regexp_substr replace reverse right rtrim split_part
    starts_with string_to_array string_to_table strpos substr substring to_hex translate trim upper
    age clock_timestamp date_bin date_part date_trunc extract isfinite justify_days justify_hours
    justify_interval make_date make_interval make_time make_timestamp make_timestamptz now
    statement_timestamp timezone to_char to_date to_number to_timestamp transaction_timestamp array
    array_append array_cat array_length array_lower array_ndims array_position array_positions
    array_prepend array_remove array_replace array_to_string array_upper cardinality generate_series
    generate_subscripts row trim_array unnest json_build_array json_build_object jsonb_build_array
    jsonb_build_object row_to_json to_json to_jsonb first histogram interpolate last locf
    time_bucket time_bucket_gapfill
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())

TABLE_FUNCTIONS = frozenset(
    (
        *("generate_series", "generate_subscripts", "regexp_matches", "regexp_split_to_table"),
        *("string_to_table", "unnest"),
    )
)
"""Those that may stand in FROM."""

BARE_FUNCTIONS = frozenset(
    ("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")
)
"""Those that need no parentheses."""

_TYPES = exp.DataType.Type
TYPES = frozenset(
    (
        *(_TYPES.BOOLEAN, _TYPES.SMALLINT, _TYPES.INT, _TYPES.BIGINT, _TYPES.DECIMAL),
        *(_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.TEXT, _TYPES.VARCHAR, _TYPES.CHAR, _TYPES.DATE),
        *(_TYPES.TIME, _TYPES.TIMETZ, _TYPES.TIMESTAMP, _TYPES.TIMESTAMPTZ, _TYPES.INTERVAL),
        *(_TYPES.JSON, _TYPES.JSONB, _TYPES.UUID, _TYPES.ARRAY),
    )
)
LARGEST_TYPE_PARAMETER = 1_000

QUERIES = (exp.Select, exp.Union, exp.Except, exp.Intersect, exp.Subquery)

NODES: frozenset[type[exp.Expr]] = frozenset(
    (
        *QUERIES,
        *(exp.With, exp.CTE, exp.From, exp.Table, exp.TableAlias, exp.Alias, exp.Column, exp.Star),
        *(exp.Identifier, exp.Join, exp.Lateral, exp.Unnest, exp.Values, exp.Where, exp.Group),
        *(exp.Rollup, exp.Cube, exp.GroupingSets, exp.Having, exp.Order, exp.Ordered, exp.Limit),
        *(exp.LimitOptions, exp.Offset, exp.Fetch, exp.Distinct, exp.Window, exp.WindowSpec),
        *(exp.Filter, exp.WithinGroup, exp.Literal, exp.Null, exp.Boolean, exp.Var, exp.Parameter),
        *(exp.Paren, exp.Tuple, exp.Array, exp.Bracket, exp.Slice, exp.Case, exp.If, exp.Cast),
        *(exp.DataType, exp.DataTypeParam, exp.AtTimeZone, exp.Anonymous, exp.Extract),
        *(exp.StrPosition, exp.Substring, exp.Trim, exp.Overlay, exp.CurrentDate),
        *(exp.CurrentTime, exp.CurrentTimestamp, exp.Localtime, exp.Localtimestamp),
        *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Pow, exp.Neg, exp.DPipe),
        *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ),
        *(exp.And, exp.Or, exp.Not, exp.Is, exp.In, exp.Between, exp.Exists, exp.Any, exp.All),
        *(exp.Like, exp.ILike, exp.SimilarTo, exp.Escape, exp.RegexpLike, exp.RegexpILike),
        *(exp.Overlaps, exp.Kwarg, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.BitwiseNot),
    )
)

SYSTEM_COLUMNS = frozenset(("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"))

_KEYWORDS = """
    all and any array as asc at between both by case cast cross cube current day desc distinct else end
    escape except exclude exists false fetch filter first following for from full group groups
    having ilike in inner intersect interval is join last lateral leading left like limit local
    materialized natural next not null nulls no offset on only or order ordinality others outer over
    overlay overlaps partition placing preceding range right rollup row rows select sets similar
    some symmetric then ties time to trailing true unbounded union unknown using values when where
    window with within without zone grouping groups
"""
_TYPE_WORDS = """
    bigint boolean bool char date decimal double float int integer interval json jsonb numeric precision
    real smallint text time timestamp timestamptz timetz uuid varchar varying
"""
_FIELDS = """
    years months weeks days hours mins secs
    century day decade dow doy epoch hour isodow isoyear julian microseconds millennium milliseconds
    minute month quarter second timezone timezone_hour timezone_minute week year
"""
PAREN_KEYWORDS = frozenset(_KEYWORDS.split()) | frozenset(_TYPE_WORDS.split())
"""Words that may stand before a parenthesis without calling anything."""

REWORDED = PAREN_KEYWORDS | frozenset(
    ("isnull", "notnull", "power", "int2", "int4", "int8", "float4", "float8", "bpchar")
)
"""Words that may be another one once the text is written anew, as `isnull` is `is null`."""

WORDS = PAREN_KEYWORDS | FUNCTIONS | BARE_FUNCTIONS | frozenset(_FIELDS.split())
"""Every word that may stand unquoted in the text that is executed."""

_OPERATORS = """
    + - * / % ^ < > = <= >= <> != || ~ ~* !~ !~* ~~ !~~ ~~* !~~* & | # :: => :
"""
OPERATORS = frozenset(_OPERATORS.split())
