"""From SQLAlchemy to samples: executions, fetches, who asked, and which checkout a statement belongs to."""
