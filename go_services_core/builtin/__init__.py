"""The built-in plugin: what every installation has, through the public hooks."""
