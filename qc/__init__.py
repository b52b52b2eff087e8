"""Eyes: figures and reports."""
