"""What clocks report: in words, as a trace, as a page."""
