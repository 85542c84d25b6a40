"""The watcher: keeps what is known of some folders true for weeks."""
