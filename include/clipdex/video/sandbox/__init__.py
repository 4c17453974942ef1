"""The sandbox: a pool of decoder processes, the worker that runs in one, and its seccomp filter."""
