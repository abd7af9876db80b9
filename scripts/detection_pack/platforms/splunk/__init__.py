"""Splunk: SPL, and the app that schedules it."""
