"""Small I/O, each with one owner: files, locks, locations, cores, the installation."""
