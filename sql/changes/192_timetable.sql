-- With which timetable the bars of a series were read.
ALTER TABLE market.series ADD COLUMN timetable text;
COMMENT ON COLUMN market.series.timetable IS 'Calendar and hours, stamp and zone that its stored bars were read with; another one is compared with them first';
