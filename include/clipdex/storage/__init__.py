"""Storage: the clips of a source (source), clipdex's own objects (artifacts), and the filesystems below both."""
