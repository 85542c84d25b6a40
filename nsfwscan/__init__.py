"""Find the pictures that are not safe for work, offline."""
