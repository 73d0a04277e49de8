"""The kernel's interfaces: ptrace, waitpid, memory of other processes, /proc."""
