"""Results of reviews by several people: agreement, and the report of a clinicians' study."""
