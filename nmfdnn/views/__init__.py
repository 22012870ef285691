"""Reading what runs left: tables and pictures."""
