"""Clips: what is known of one clip, indexed or not, and its video.

page.py   /clips/ID, and /api/clips/ID/record, captions, outcomes
record.py what they show, from the index and the store
player.py /clips/ID/player, a part of the pages of a clip and of search
media.py  /posters/CONTENT.jpg, /playbacks/CONTENT.mp4, in ranges
"""

from clipdex.web.clips import media, page, player

ROUTERS = (page.router, player.router, media.router)
