"""Captions: the text of a clip, the engines that write it, and the gates it must pass."""
