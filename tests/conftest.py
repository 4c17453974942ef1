"""For every test: what a shell that runs tests in the background has taken away is put back."""

import signal

# Such a shell has its jobs ignore SIGINT, and what a test starts and wants to stop by Ctrl-C would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
