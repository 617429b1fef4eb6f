"""The calendar of the source: local days of New York in 2013. The source is bounded."""

from datetime import timedelta

import dagster as dg

from mlops_assets.defs.nyc_flights.expressions import NEW_YORK

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01", timezone=NEW_YORK)

REPORTING_DELAY_OF_WEATHER = timedelta(hours=1)
"""A reading is taken to be available this long after the hour that it is stamped with."""
