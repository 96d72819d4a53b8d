-- The seeded catalogue: metrics, the names senders use for them, and the units they send.
-- Identifiers are fixed for ever; a metric is added at the end, never renumbered.

insert into telemetry.metric (
    metric_id, code, title, unit, plausible_min, plausible_max, usgs_parameter, wqx_characteristic
)
values
    (1, 'ph', 'pH', 'pH', 0, 14, '00400', 'pH'),
    (2, 'temperature', 'Water temperature', 'degC', -5, 60, '00010', 'Temperature, water'),
    (3, 'turbidity', 'Turbidity', 'FNU', -1, 5000, '63680', 'Turbidity'),
    (4, 'dissolved_oxygen', 'Dissolved oxygen', 'mg/L', -0.5, 50, '00300', 'Dissolved oxygen (DO)'),
    (5, 'dissolved_oxygen_saturation', 'Dissolved oxygen saturation', '%', -5, 500, '00301',
        'Dissolved oxygen saturation'),
    (6, 'specific_conductance', 'Specific conductance at 25 degC', 'uS/cm', 0, 200000, '00095',
        'Specific conductance'),
    (7, 'conductivity', 'Electrical conductivity, not corrected', 'uS/cm', 0, 200000, '00094',
        'Conductivity'),
    (8, 'salinity', 'Practical salinity', 'PSU', 0, 80, '00480', 'Salinity'),
    (9, 'depth', 'Depth below the water surface', 'm', -2, 11000, '82048', 'Depth'),
    (10, 'stage', 'Water level above datum', 'm', -500, 9000, '00065', 'Height, gage'),
    (11, 'flow', 'Discharge', 'm3/s', -300000, 300000, '00060', 'Flow'),
    (12, 'nitrate', 'Nitrate as nitrogen', 'mg/L as N', -0.5, 1000, '00618', 'Nitrate as N'),
    (13, 'phosphate', 'Orthophosphate as phosphorus', 'mg/L as P', -0.5, 500, '00671',
        'Orthophosphate as P'),
    (14, 'ammonium', 'Ammonium as nitrogen', 'mg/L as N', -0.5, 1000, '00608', 'Ammonium as N'),
    (15, 'chlorophyll', 'Chlorophyll fluorescence', 'ug/L', -5, 2000, '32316', 'Chlorophyll (probe)'),
    (16, 'free_chlorine', 'Free chlorine', 'mg/L', -0.1, 50, '50064', 'Chlorine, free'),
    (17, 'total_chlorine', 'Total chlorine', 'mg/L', -0.1, 50, '50060', 'Chlorine, total'),
    (18, 'orp', 'Oxidation-reduction potential', 'mV', -2000, 2000, '00090',
        'Oxidation reduction potential (ORP)'),
    (19, 'lead', 'Lead', 'ug/L', -1, 100000, '01051', 'Lead'),
    (20, 'arsenic', 'Arsenic', 'ug/L', -1, 100000, '01002', 'Arsenic'),
    (21, 'battery', 'Battery voltage', 'V', 0, 60, '70969', null),
    (22, 'air_temperature', 'Air temperature', 'degC', -90, 70, '00020', 'Temperature, air'),
    (23, 'barometric_pressure', 'Barometric pressure', 'hPa', 300, 1200, '00025', 'Barometric pressure'),
    (24, 'precipitation', 'Precipitation', 'mm', 0, 2000, '00045', 'Precipitation'),
    (25, 'pressure', 'Pipe pressure', 'kPa', -101.325, 10000, null, 'Pressure'),
    (26, 'fdom', 'Fluorescent dissolved organic matter', 'ug/L QSE', -50, 5000, '32295',
        'Colored dissolved organic matter (CDOM)'),
    (27, 'phycocyanin', 'Phycocyanin fluorescence', 'ug/L', -5, 5000, '32319', 'Phycocyanin (probe)'),
    (28, 'total_organic_carbon', 'Total organic carbon', 'mg/L', -1, 10000, '00680', 'Organic carbon'),
    (29, 'uv254', 'UV absorbance at 254 nm', '1/m', -5, 1000, '61726', 'UV 254'),
    (30, 'total_suspended_solids', 'Total suspended solids', 'mg/L', -1, 200000, '00530',
        'Total suspended solids'),
    (31, 'total_dissolved_solids', 'Total dissolved solids', 'mg/L', -1, 400000, '70300',
        'Total dissolved solids'),
    (32, 'fluoride', 'Fluoride', 'mg/L', -0.5, 1000, '00950', 'Fluoride'),
    (33, 'signal_strength', 'Radio signal strength', 'dBm', -200, 50, null, null)
on conflict (metric_id) do update set
    code = excluded.code,
    title = excluded.title,
    unit = excluded.unit,
    plausible_min = excluded.plausible_min,
    plausible_max = excluded.plausible_max,
    usgs_parameter = excluded.usgs_parameter,
    wqx_characteristic = excluded.wqx_characteristic;

-- A metric's code and its USGS parameter code are names for it, too.
insert into telemetry.metric_alias (alias, metric_id)
select m.code, m.metric_id
from telemetry.metric as m
union
select m.usgs_parameter, m.metric_id
from telemetry.metric as m
where m.usgs_parameter is not null
union
select a.alias, m.metric_id
from (
    values
        ('temp', 'temperature'), ('water_temperature', 'temperature'), ('wtemp', 'temperature'),
        ('turb', 'turbidity'), ('do', 'dissolved_oxygen'), ('do_mgl', 'dissolved_oxygen'),
        ('oxygen', 'dissolved_oxygen'), ('do_pct', 'dissolved_oxygen_saturation'),
        ('do_sat', 'dissolved_oxygen_saturation'), ('spcond', 'specific_conductance'),
        ('sc', 'specific_conductance'), ('ec', 'conductivity'), ('cond', 'conductivity'),
        ('sal', 'salinity'), ('level', 'stage'), ('water_level', 'stage'), ('gage_height', 'stage'),
        ('discharge', 'flow'), ('no3', 'nitrate'), ('nitrate_n', 'nitrate'), ('no3_n', 'nitrate'),
        ('po4', 'phosphate'), ('orthophosphate', 'phosphate'), ('nh4', 'ammonium'),
        ('ammonia', 'ammonium'), ('chl', 'chlorophyll'), ('chla', 'chlorophyll'),
        ('chlfluor', 'chlorophyll'), ('chlorine', 'free_chlorine'), ('cl2', 'free_chlorine'),
        ('redox', 'orp'), ('pb', 'lead'), ('as', 'arsenic'), ('batt', 'battery'), ('vbat', 'battery'),
        ('air_temp', 'air_temperature'), ('baro', 'barometric_pressure'), ('rain', 'precipitation'),
        ('toc', 'total_organic_carbon'), ('tss', 'total_suspended_solids'),
        ('tds', 'total_dissolved_solids'), ('rssi', 'signal_strength')
) as a (alias, code)
join telemetry.metric as m using (code)
on conflict (alias) do update set metric_id = excluded.metric_id;

-- Every metric takes its own unit as it is.
insert into telemetry.metric_unit (metric_id, unit, factor)
select m.metric_id, lower(m.unit), 1
from telemetry.metric as m
on conflict (metric_id, unit) do update set factor = 1, shift = 0, refusal = null;

insert into telemetry.metric_unit (metric_id, unit, factor, shift, refusal)
select m.metric_id, u.unit, u.factor, u.shift, u.refusal
from (
    -- temperatures: degF and kelvin
    select t.code, v.unit, v.factor, v.shift, null::text as refusal
    from (values ('temperature'), ('air_temperature')) as t (code)
    cross join (
        values
            ('c', 1, 0), ('celsius', 1, 0),
            ('degf', 5.0 / 9.0, -160.0 / 9.0), ('f', 5.0 / 9.0, -160.0 / 9.0),
            ('fahrenheit', 5.0 / 9.0, -160.0 / 9.0),
            ('k', 1, -273.15), ('kelvin', 1, -273.15)
    ) as v (unit, factor, shift)
    union all
    -- mass per volume, stored in mg/L or ug/L; ppm and ppb by mass hold for dilute water
    select t.code, v.unit, v.factor, 0, null
    from (
        values
            ('dissolved_oxygen'), ('free_chlorine'), ('total_chlorine'), ('total_organic_carbon'),
            ('total_suspended_solids'), ('total_dissolved_solids'), ('fluoride')
    ) as t (code)
    cross join (
        values ('ug/l', 0.001), ('g/l', 1000), ('ppm', 1), ('ppb', 0.001), ('g/m3', 1)
    ) as v (unit, factor)
    union all
    select t.code, v.unit, v.factor, 0, null
    from (values ('chlorophyll'), ('lead'), ('arsenic'), ('phycocyanin')) as t (code)
    cross join (
        values ('mg/l', 1000), ('ng/l', 0.001), ('ppb', 1), ('ppm', 1000), ('mg/m3', 1)
    ) as v (unit, factor)
    union all
    -- siemens
    select t.code, v.unit, v.factor, 0, null
    from (values ('specific_conductance'), ('conductivity')) as t (code)
    cross join (
        values
            ('ms/cm', 1000), ('s/m', 10000), ('ms/m', 10), ('us/m', 0.01), ('umho/cm', 1),
            ('umhos/cm', 1), ('mmho/cm', 1000), ('us/cm @25c', 1), ('us/cm at 25 degc', 1)
    ) as v (unit, factor)
    union all
    -- lengths
    select t.code, v.unit, v.factor, 0, null
    from (values ('depth'), ('stage')) as t (code)
    cross join (
        values ('cm', 0.01), ('mm', 0.001), ('ft', 0.3048), ('in', 0.0254), ('km', 1000)
    ) as v (unit, factor)
    union all
    -- nutrients: the molar masses N 14.0067, NO3 62.0049, NH4 18.0385, P 30.973762, PO4 94.9714
    select v.code, v.unit, v.factor, 0, null
    from (
        values
            ('nitrate', 'mg/l-n', 1), ('nitrate', 'mg n/l', 1), ('nitrate', 'mg/l n', 1),
            ('nitrate', 'ug/l as n', 0.001),
            ('nitrate', 'mg/l as no3', 14.0067 / 62.0049), ('nitrate', 'mg no3/l', 14.0067 / 62.0049),
            ('nitrate', 'mg/l no3', 14.0067 / 62.0049),
            ('nitrate', 'ug/l as no3', 0.001 * 14.0067 / 62.0049),
            ('nitrate', 'umol/l', 0.0140067), ('nitrate', 'um', 0.0140067),
            ('ammonium', 'mg/l-n', 1), ('ammonium', 'mg n/l', 1), ('ammonium', 'mg/l n', 1),
            ('ammonium', 'ug/l as n', 0.001),
            ('ammonium', 'mg/l as nh4', 14.0067 / 18.0385), ('ammonium', 'mg nh4/l', 14.0067 / 18.0385),
            ('ammonium', 'umol/l', 0.0140067), ('ammonium', 'um', 0.0140067),
            ('phosphate', 'mg/l-p', 1), ('phosphate', 'mg p/l', 1), ('phosphate', 'mg/l p', 1),
            ('phosphate', 'ug/l as p', 0.001),
            ('phosphate', 'mg/l as po4', 30.973762 / 94.9714),
            ('phosphate', 'mg po4/l', 30.973762 / 94.9714),
            ('phosphate', 'umol/l', 0.030973762), ('phosphate', 'um', 0.030973762)
    ) as v (code, unit, factor)
    union all
    -- a bare mg/L does not say what is weighed: the factor between the readings is 3 to 4
    select v.code, u.unit, null, 0,
        'it does not say the basis; send ' || v.remedy
    from (
        values
            ('nitrate', '''mg/L as N'' or ''mg/L as NO3'''),
            ('ammonium', '''mg/L as N'' or ''mg/L as NH4'''),
            ('phosphate', '''mg/L as P'' or ''mg/L as PO4''')
    ) as v (code, remedy)
    cross join (values ('mg/l'), ('ppm'), ('ug/l'), ('ppb')) as u (unit)
    union all
    select v.code, v.unit, v.factor, 0, null
    from (
        values
            ('turbidity', 'ntu', 1), ('turbidity', 'fnu', 1), ('turbidity', 'ftu', 1),
            ('turbidity', 'fbu', 1), ('turbidity', 'nturatio', 1),
            ('ph', 'unit', 1), ('ph', 'units', 1), ('ph', 'std units', 1), ('ph', 'ph units', 1),
            ('ph', '1', 1),
            ('salinity', 'ppt', 1), ('salinity', 'psu', 1), ('salinity', 'g/kg', 1), ('salinity', 'pss', 1),
            ('salinity', 'g/l', 1),
            ('dissolved_oxygen_saturation', 'percent', 1), ('dissolved_oxygen_saturation', '% sat', 1),
            ('dissolved_oxygen_saturation', '% saturation', 1), ('dissolved_oxygen_saturation', '1', 100),
            ('flow', 'l/s', 0.001), ('flow', 'm3/h', 1.0 / 3600), ('flow', 'm3/d', 1.0 / 86400),
            ('flow', 'ft3/s', 0.028316846592), ('flow', 'cfs', 0.028316846592),
            ('flow', 'gpm', 0.0000630901964), ('flow', 'mgd', 0.0438126363889), ('flow', 'ml/d', 1.0 / 86.4),
            ('orp', 'v', 1000), ('battery', 'mv', 0.001),
            ('barometric_pressure', 'kpa', 10), ('barometric_pressure', 'mbar', 1),
            ('barometric_pressure', 'pa', 0.01), ('barometric_pressure', 'mmhg', 1.33322387415),
            ('barometric_pressure', 'inhg', 33.86389),
            ('pressure', 'bar', 100), ('pressure', 'mbar', 0.1), ('pressure', 'psi', 6.894757293168),
            ('pressure', 'mh2o', 9.80665), ('pressure', 'mpa', 1000),
            ('precipitation', 'cm', 10), ('precipitation', 'in', 25.4),
            ('uv254', '1/cm', 100), ('uv254', 'abs/cm', 100), ('uv254', 'm-1', 1), ('uv254', 'cm-1', 100),
            ('fdom', 'qsu', 1), ('fdom', 'ppb qse', 1)
    ) as v (code, unit, factor)
) as u
join telemetry.metric as m using (code)
on conflict (metric_id, unit) do update set
    factor = excluded.factor,
    shift = excluded.shift,
    refusal = excluded.refusal;
