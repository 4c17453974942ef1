"""The timetable of ingest_clips: one run per day of the source's time zone, when that day is over.

Airflow's CronPartitionTimetable counts ticks of "0 0 * * *". Where the clocks skip midnight (Africa/Cairo, Asia/Beirut,
America/Santiago), that tick does not exist once a year, and it skips the day before and runs the next one early. This
timetable counts days. The plugin registers it with Airflow.
"""

from datetime import date, datetime
from typing import Any, Self

from airflow.exceptions import InvalidPartitionKeyError
from airflow.timetables.trigger import CronPartitionTimetable
from pendulum import DateTime, instance

from clipdex.days import day_of, start_after, start_before, start_of


class DayTimetable(CronPartitionTimetable):
    """Schedule a run at the end of each day. Its partition key is the day, YYYY-MM-DD. timezone: IANA name"""

    def __init__(self, timezone: str) -> None:
        super().__init__("0 0 * * *", timezone=timezone, run_offset=-1, key_format="%Y-%m-%d")
        self._name = timezone
        self.description = f"At the end of each day in {timezone}"

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Self:
        return cls(data["timezone"])

    def serialize(self) -> dict[str, Any]:
        return {"timezone": self._name}

    def localize_partition_datetime(self, dt: datetime) -> DateTime:
        """Return the moment that a bound of a backfill means.

        The API gives a date as its midnight in UTC, or in the time zone that the user chose in the UI: the start of a
        day of this timetable is kept, and any other time is read as local time.
        """
        if dt.tzinfo and start_of(date.fromisoformat(day_of(dt, self._name)), self._name) == dt:
            return instance(dt)
        midnight = dt.replace(tzinfo=None) == datetime(dt.year, dt.month, dt.day)
        start = start_of(dt.date(), self._name) if midnight else None
        return instance(start) if start else super().localize_partition_datetime(dt)

    def _get_next(self, current: DateTime) -> DateTime:
        return instance(start_after(current, self._name))

    def _get_prev(self, current: DateTime) -> DateTime:
        return instance(start_before(current, self._name))

    def _format_key(self, partition_date: DateTime) -> str:
        return day_of(partition_date, self._name)

    def _decode_partition_date(self, partition_key: str) -> datetime:
        try:
            start = start_of(date.fromisoformat(partition_key), self._name)
        except ValueError:
            start = None
        if start is None:
            raise InvalidPartitionKeyError(f"{partition_key!r} is not a day in {self._name}, such as 2026-11-03")
        return start
