"""What is told of clocks: in words, as a trace, as a page."""
