"""The only place that speaks SQL: functions that take a connection and hand out values."""
