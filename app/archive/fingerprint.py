"""Checksums of kind 1, which manifests of earlier versions have: proven again as they were made.

IEEE arithmetic and whole numbers only, summed up over a sensor's readings.
"""

_TIER = (
    "{number} + floor(value * {by})::bigint % 2147483647"
    " + 3 * floor((value * {by} - floor(value * {by})) * 2147483648.0::double)::bigint"
)
_VALUE = (
    "case when abs(value) >= 0.00048828125::double and abs(value) < 524288::double then "
    + _TIER.format(number=1, by="8589934592.7182818::double")
    + " when abs(value) < 0.00048828125::double then "
    + _TIER.format(number=2, by="1.5795e18::double")
    + " when abs(value) < 1e15::double then "
    + _TIER.format(number=3, by="1021.314159::double")
    + " else 5 end"
)
_WEIGHT = "((epoch_us(ts) + metric_id::bigint * 7919 + quality::bigint * 104729) % 134217689)"
FINGERPRINT = f"(({_VALUE}) * {_WEIGHT})"

DIGEST = (
    "select sensor_id, count(*), min(ts), max(ts), sum(value), sum(abs(value)),"
    f" sum({FINGERPRINT})::varchar from {{source}} group by sensor_id"
)
"""A row a sensor, over any source with a reading's columns."""
