"""From the folder of a bundle to what people install. `packaging/ship --help` tells how."""
