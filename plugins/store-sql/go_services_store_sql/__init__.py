"""Models, migrations and units of work shared by the SQL stores of go_services."""

__version__ = "0.1.0"
