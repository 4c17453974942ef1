"""Preflight: does a node give its model what clipdex sends? Checked with known videos, before a task spends a clip.

preflight   the checks of one node, in order
asking      a question to a node and its reply
drawing     the known videos
questions   questions about them, the right answers, and how an answer is read
counting    prompt tokens compared with those of the family; names the likely cause of a difference
sampling    whether max_tokens, temperature and seeds are honoured
clock       whether the model is given the time: answers about direction, order and seconds
findings    what was found
cache       results are kept in the process and in the store
"""

from clipdex.captions.preflight.asking import Ask, Reply
from clipdex.captions.preflight.cache import Kept
from clipdex.captions.preflight.findings import Finding, Level, NodeReport
from clipdex.captions.preflight.preflight import Subject, inspect

__all__ = ["Ask", "Finding", "Kept", "Level", "NodeReport", "Reply", "Subject", "inspect"]
