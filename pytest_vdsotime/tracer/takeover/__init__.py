"""How a program comes onto a clock, at its start, at an exec or while it runs, and off it again."""
