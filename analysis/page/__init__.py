"""`report.html`: a run as one file to show, with its figures, and temperature to drag."""
