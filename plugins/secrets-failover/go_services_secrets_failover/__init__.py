"""Secret backend of go_services over two others: a primary, and a fallback that reads what it sealed or stands in."""

__version__ = "0.1.0"
