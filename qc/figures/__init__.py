"""Drawing shared by the reports: panels, release statistics, HTML templates."""
