"""Engines over HTTP: a model behind one gateway or several nodes (clipdex.nodes).

model          requests, answers, and the check of the nodes before captioning
dialects       differences between servers
clock          check that a server passes the frame times to the model
"""
