"""The database monitor that lives inside your SQLAlchemy application."""
