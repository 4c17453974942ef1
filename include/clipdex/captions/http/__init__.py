"""Engines over HTTP: a model behind one gateway or several nodes.

model          requests, answers, and the check of the nodes before captioning
node_pool      node selection, retries, cooldowns, hedged requests
client         one request to one node
load_control   concurrency limit per node
dialects       differences between servers
clock          check that a server passes the frame times to the model
"""
