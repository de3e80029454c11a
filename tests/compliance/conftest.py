"""SQLAlchemy's suite runs in processes of its own: its pytest plugin takes over what it is loaded into."""

collect_ignore = ["suite"]
