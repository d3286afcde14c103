"""What makes records of many sources one paper: clean text, identity, withdrawal, combination."""
