"""The clock over HTTP, for whatever language a test is written in."""
