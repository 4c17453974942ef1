"""Storage: which files of a source are clips (source), what clipdex keeps (artifacts), and filesystems below both."""
