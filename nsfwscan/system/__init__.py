"""Small I/O with one owner each: files, locks, locations, processors, the installation."""
