"""Nodes: servers of one model behind one gateway or several addresses, for captions and for embeddings.

service        what they are: settings, and the names in messages
pool           node selection, retries, cooldowns, hedged requests
client         one request to one node
load_control   concurrency limit per node
"""
